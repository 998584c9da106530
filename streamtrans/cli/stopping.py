"""What is said where Ctrl-C or SIGTERM ends a training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


@contextmanager
def stopping_well(again: str, folder: Path) -> Iterator[None]:
    """Let a training end with status 130 at a signal, and say from where it goes on.

    Args:
        again: the command that goes on with it.
        folder: that keeps where it stands.
    """
    from streamtrans.train.stopping import Stopped

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, while no step is under way
    try:
        yield
    except Stopped as stopped:
        typer.echo(f"stopped: {stopped}; {again} goes on from there", err=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; {again} goes on from what was saved last in {folder}", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
