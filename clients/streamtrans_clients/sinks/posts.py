"""Captions as numbered HTTP posts, the way in for captions that YouTube and Zoom share.

Law: the number rises by one with each new text, and stays where one is sent again.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

import aiohttp

from streamtrans.client import Caption
from streamtrans_clients.sinks.lines import Pieces
from streamtrans_clients.sinks.sink import PAUSES_S, Place, Sink, SinkError

_ANSWER_S = 5.0
"""How long an answer may take before the post is sent again."""

_FINE = range(200, 300)

_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}


class Posts(Sink):
    """Pieces of promised text, a post each."""

    columns: ClassVar[int] = 42
    """Of a line."""
    advice: ClassVar[dict[int, str]] = {}
    """Status → what to do about it."""

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        if urlsplit(place.written).scheme not in ("http", "https"):
            raise SinkError(f"{place.kind} needs the address that it gives for captions, which begins with https://")
        self._pieces = Pieces(self.columns)
        self._number = 0
        self._heard = 0

    async def __aenter__(self) -> Self:
        """Open a connection; what is wrong with the address is told by the first answer."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._session.close()

    async def heard(self, milliseconds: int) -> None:
        """Learn what time of the sound it is."""
        self._heard = milliseconds

    async def show(self, caption: Caption, speaker: str) -> None:
        """Post what is newly promised."""
        pieces = self._pieces.of(caption, speaker)
        for at, piece in enumerate(pieces, 1):
            last = caption.final and at == len(pieces)
            await self._post(self.body(piece, caption, last=last))

    @abstractmethod
    def body(self, piece: str, caption: Caption, *, last: bool) -> str:
        """Return what is posted of a piece; ``last`` says that it ends its segment."""

    def address(self, number: int) -> str:
        """Return where the post of this number goes."""
        return with_query(self.place.written, f"seq={number}")

    async def _post(self, body: str) -> None:
        self._number += 1
        problem = ""
        for pause_s in (*PAUSES_S, None):
            try:
                async with self._session.post(
                    self.address(self._number), data=body.encode(), headers=_HEADERS
                ) as answer:
                    if answer.status in _FINE:
                        return
                    problem = self.advice.get(answer.status, f"it answers {answer.status} {answer.reason}")
            except TimeoutError:
                problem = f"it doesn't answer within {_ANSWER_S:g} s"
            except aiohttp.ClientError as error:
                problem = f"it can't be reached ({type(error).__name__})"  # the message holds the address, a secret
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise SinkError(f"{urlsplit(self.place.written).hostname}: {problem}")


def with_query(address: str, more: str) -> str:
    """Return an address with more behind its question mark."""
    return f"{address}{'&' if '?' in address else '?'}{more}"
