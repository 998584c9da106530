"""``python -m streamtrans.cli`` is ``streamtrans``."""

from streamtrans.cli import main

if __name__ == "__main__":
    main()
