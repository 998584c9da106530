"""Law: a client program knows the server through ``streamtrans.client`` alone.

Programs that speak to a server: ``streamtrans-mic`` (:mod:`streamtrans_clients.mic`), and what it is made of:
where sound comes from, one stream followed to its end, and captions on a terminal.
"""

from streamtrans_clients.boards import (
    Board,
    FinalLines,
    GrowingLines,
    TerminalBoard,
    caption_text,
    clock,
    escaped,
    marked,
    printable,
)
from streamtrans_clients.follow import follow
from streamtrans_clients.sources import Source, SourceError, loudness, microphone, microphones, recording

__all__ = [
    "Board",
    "FinalLines",
    "GrowingLines",
    "Source",
    "SourceError",
    "TerminalBoard",
    "caption_text",
    "clock",
    "escaped",
    "follow",
    "loudness",
    "marked",
    "microphone",
    "microphones",
    "printable",
    "recording",
]
