"""The verbs of the program, imported when they are asked for.

A verb is added by a file here and a line in :data:`VERBS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import typer

from streamtrans import __version__
from streamtrans.cli.commands import COLUMNS, Commands, command
from streamtrans.foreign import Table

VERBS: Table[Any] = Table(
    "verb",
    {
        "translate": "streamtrans.cli.translate:translate",
        "serve": "streamtrans.cli.serve:serve",
        "key": "streamtrans.cli.key:key",
        "conformance": "streamtrans.cli.conformance:conformance",
        "record": "streamtrans.cli.record:record",
        "replay": "streamtrans.cli.replay:replay",
        "demo": "streamtrans.cli.demo:demo",
        "doctor": "streamtrans.cli.doctor:doctor",
        "bench": "streamtrans.cli.bench:bench",
        "evaluate": "streamtrans.cli.evaluate:evaluate",
        "talks": "streamtrans.cli.talks:talks",
        "convert": "streamtrans.cli.convert:convert",
        "compress": "streamtrans.cli.compress:compress",
        "corpus": "streamtrans.cli.corpus:corpus",
        "train": "streamtrans.cli.train:train",
        "export": "streamtrans.cli.export:export",
        "align": "streamtrans.cli.align:align",
        "export-log": "streamtrans.cli.export_log:export_log",
    },
)
"""Verb → ``module:function``, or ``module:app`` where the verb has verbs of its own."""


class _Verbs(Commands):
    """The verbs of the table."""

    def further(self) -> Mapping[str, Callable[[], Any]]:
        """Return by name what imports each of them."""
        return {name: partial(load_verb, name) for name in VERBS}


def load_verb(name: str) -> Any:
    """Import a verb of the table and return its command."""
    return command(name, VERBS.load(name))


app = typer.Typer(
    name="streamtrans",
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": min(COLUMNS - 1, 99)},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamtrans {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=False)
def _program(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and end."
    ),
) -> None:
    """Live speech translation: speech in, captions in other languages out.

    Translate recordings:

        streamtrans translate talk.wav --to de,fr --srt

    Serve live streams, and speak into one from another terminal:

        streamtrans serve

        streamtrans-mic --to de,fr

    See all of it at work, or find out what is missing:

        streamtrans demo

        streamtrans doctor

    Each verb explains itself: streamtrans translate --help
    """
