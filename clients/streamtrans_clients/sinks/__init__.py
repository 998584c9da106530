"""Where captions are shown besides a terminal: in a player, a broadcast, a file.

A sink is a file of this folder and a line of :data:`SINKS`. It shows captions of one language, and is asked for by
``KIND:PLACE``, such as ``obs:ws://localhost:4455/Captions``.

Law: what can't be taken back is shown only once it is promised, each word once and in order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from streamtrans_clients.sinks.sink import Place, Sink, SinkError

SINKS: Mapping[str, str] = MappingProxyType(
    {
        "obs": "streamtrans_clients.sinks.obs:ObsText",
        "obs-captions": "streamtrans_clients.sinks.obs:ObsCaptions",
        "hls": "streamtrans_clients.sinks.hls:Hls",
        "youtube": "streamtrans_clients.sinks.youtube:YouTube",
        "zoom": "streamtrans_clients.sinks.zoom:Zoom",
        "file": "streamtrans_clients.sinks.files:SubtitleFile",
    }
)
"""Kind → the class that shows captions there."""

_FILES = (".srt", ".vtt", ".txt", ".tsv")

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*")

_HOLE = "{language}"


def sinks_for(asked: str, targets: Sequence[str], *, also: Collection[str] = ()) -> list[Sink]:
    """Return the sinks that ``[LANGUAGE=]KIND:PLACE`` asks for; a language is one of ``targets``, or ``also`` of these.

    Without a language it is the only target's; of several, ``{language}`` in the place stands for each. A place
    ``@FILE`` is read from a file, so that what is secret stands on no command line.

    Raises:
        SinkError: there is no such kind, it needs a package that isn't there, or the place is malformed.
    """
    head, equals, rest = asked.partition("=")
    named = equals and _LANGUAGE.fullmatch(head)
    if named and head not in targets and head not in also:
        raise SinkError(f"{head}=…: nothing is written in {head!r} here; --to names {', '.join(targets)}")
    language, what = (head, rest) if named else ("", asked)
    kind, place = _split(what)
    text = _read(place)
    if language:
        shown = [language]
    elif len(targets) == 1 or _HOLE in text:
        shown = list(targets)
    else:
        raise SinkError(
            f"{kind}: say which language it shows, such as {targets[0]}={kind}:…; or write {_HOLE} in the place, and"
            " there is one for each"
        )
    made = _class(kind)
    return [made(Place(kind, text.replace(_HOLE, each)), each) for each in shown]


def _split(asked: str) -> tuple[str, str]:
    kind, colon, place = asked.partition(":")
    if kind in SINKS and colon:
        return kind, place
    if Path(asked).suffix.lower() in _FILES:
        return "file", asked
    close = difflib.get_close_matches(kind, SINKS, n=1) if colon else []
    hint = f"did you mean {close[0]}:{place}? " if close else ""
    raise SinkError(
        f"{asked!r} is nowhere to show captions: {hint}it is KIND:PLACE with a kind of {', '.join(SINKS)}, or a file"
        f" that ends in {', '.join(_FILES)}"
    )


def _read(place: str) -> str:
    if not place.startswith("@"):
        return place
    try:
        return Path(place[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"{place[1:]} can't be read: {error}") from error


def _class(kind: str) -> type[Sink]:
    module, _, name = SINKS[kind].partition(":")
    try:
        made: type[Sink] = getattr(import_module(module), name)
    except ImportError as error:
        raise SinkError(f"{kind} needs the package {error.name}: pip install {error.name}") from error
    return made


__all__ = ["SINKS", "Place", "Sink", "SinkError", "sinks_for"]
