"""The verbs of the program, imported when they are asked for.

A verb is added by a file here and a line in :data:`VERBS`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from streamtrans import __version__
from streamtrans.foreign import Table

VERBS: Table[Any] = Table(
    "verb",
    {
        "translate": "streamtrans.cli.translate:translate",
        "serve": "streamtrans.cli.serve:serve",
        "key": "streamtrans.cli.key:key",
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


_COLUMNS = max(24, shutil.get_terminal_size().columns)
_NARROW = 60
"""Columns below which explanations stand under what they explain, and not beside it."""


class _Page(typer.Context.formatter_class):  # type: ignore[name-defined,misc,valid-type]
    """A page of help that fits the terminal."""

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and what they mean."""
        if self.width >= _NARROW:
            super().write_dl(rows, col_max, col_spacing)
            return
        for term, text in rows:
            self.write(f"{'':{self.current_indent}}{term}\n")
            self.indent()
            self.indent()
            self.write_text(text)
            self.dedent()
            self.dedent()


class _Context(typer.Context):
    formatter_class = _Page


class _Verbs(TyperGroup):
    """A group that imports a verb when it is asked for."""

    context_class = _Context

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the signature is typer's)
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each verb does, in a whole sentence."""
        verbs = [(name, load_verb(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(300)) for name, verb in verbs])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 (the signature is typer's)
        """Return one verb, ``None`` where there is no such."""
        return load_verb(cmd_name) if cmd_name in VERBS else None


def load_verb(name: str) -> Any:
    """Import a verb of the table and return its command."""
    verb = VERBS.load(name)
    if not isinstance(verb, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name)(verb)
        verb = app
    command = typer.main.get_command(verb)
    command.name = name
    command.context_class = _Context
    return command


app = typer.Typer(
    name="streamtrans",
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": min(_COLUMNS - 1, 99)},
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
