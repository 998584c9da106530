"""``python -m streamtrans`` is ``streamtrans``: what lies in the working folder is no module of it."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the working folder, which -m has put there

from streamtrans.cli import main

if __name__ == "__main__":
    main()
