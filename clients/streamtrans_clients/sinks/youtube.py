"""Captions for a live stream on YouTube, by the address that its Live Control Room gives for "Post captions to URL".

https://support.google.com/youtube/answer/6077032
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from streamtrans.client import Caption
from streamtrans_clients.sinks.posts import Posts

_RATE = 16_000
"""Samples per second of a caption's times."""


class YouTube(Posts):
    """Each post holds the time at which something was said, by the world's clock, and the text."""

    advice: ClassVar[dict[int, str]] = {
        400: "YouTube refuses a caption (400): is the stream live, with captions set to Post captions to URL?",
        403: "YouTube doesn't know the address (403): copy it again from the Live Control Room",
    }

    def body(self, piece: str, caption: Caption, *, last: bool) -> str:  # noqa: ARG002
        """Return a line with the time, and one with the text."""
        late = timedelta(milliseconds=max(0, self._heard - caption.start * 1000 // _RATE))
        said = (datetime.now(UTC) - late).isoformat(timespec="milliseconds").removesuffix("+00:00")
        return f"{said} region:reg1#cue1\n{piece}\n"
