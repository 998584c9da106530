"""Law: one file per verb; a verb reads its options, calls the rooms below, and says what happened.

``streamtrans --help`` is fast: a verb's module imports what it needs when it runs. Nothing is imported here, so that
:func:`main` can first say what a module of ours is.
"""


def main(arguments: "list[str] | None" = None) -> None:
    """Run the program; a user's error ends it with status 2 and one line."""
    import os
    import sys

    # Neither this process nor one that it starts imports what happens to lie in the working folder.
    sys.path[:] = filter(None, sys.path)
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    # Spinning OpenMP threads beside a busy neighbour are many times slower; to be said before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # torch and oneDNN each keep what they prepared for the last 1,024 shapes. Audio and batches come in any number of
    # them, so a server grew by hundreds of MB before that was full; 64 are as fast.
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

    from streamtrans.cli import streams
    from streamtrans.cli.app import app
    from streamtrans.core import StreamtransError

    streams.prepare()
    with streams.guarded():
        try:
            app(args=arguments, prog_name="streamtrans")
        except StreamtransError as error:
            streams.complain(f"error: {error}")
            sys.exit(2)
