"""Captions for a Zoom meeting, by the address that its host copies from "Copy the API token".

https://support.zoom.com/hc/en/article?id=zm_kb&sysparm_article=KB0060368
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import aiohttp

from streamtrans.client import Caption
from streamtrans_clients.sinks.posts import Posts, with_query

_COUNTRIES = MappingProxyType({"en": "en-US", "ja": "jp-JP", "ko": "ko-KR", "pt": "pt-BR", "zh": "zh-CN"})
"""Languages whose name at Zoom isn't the language twice, as in ``de-DE``."""


class Zoom(Posts):
    """Texts follow each other in Zoom's caption line; a break ends the line."""

    advice: ClassVar[dict[int, str]] = {
        400: "Zoom says that the meeting hasn't begun (400)",
        403: "Zoom refuses the address (403): it holds for one meeting; let the host copy the API token again",
    }

    async def __aenter__(self) -> Self:
        """Ask which number the newest caption has: another program may have sent some before."""
        await super().__aenter__()
        parts = urlsplit(self.place.written)
        asked = urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/seq"))
        try:
            async with self._session.get(asked) as answer:
                newest = (await answer.text()).strip()
                self._number = int(newest) if answer.ok and newest.isascii() and newest.isdigit() else 0
        except (TimeoutError, aiohttp.ClientError):
            pass  # where nobody answers, the first post tells what to do
        return self

    def body(self, piece: str, caption: Caption, *, last: bool) -> str:  # noqa: ARG002
        """Return the text, with a space behind it, or a break at the end of a segment."""
        return piece + ("\n" if last else " ")

    def address(self, number: int) -> str:
        """Return the address with the number and the language; one that is in it already is kept."""
        numbered = super().address(number)
        if "lang" in parse_qs(urlsplit(self.place.written).query):
            return numbered
        language = self.language.partition("-")[0]
        tag = self.language if "-" in self.language else _COUNTRIES.get(language, f"{language}-{language.upper()}")
        return with_query(numbered, f"lang={tag}")
