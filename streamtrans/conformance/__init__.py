"""Law: a server of this protocol passes every check; each check can fail, and says what was seen.

Whoever writes another server, or a gateway before one, runs them against it: ``streamtrans conformance HOST:PORT``.
Importing this room doesn't import torch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, cast

from streamtrans.client.carrier import Tls, carrier_to
from streamtrans.conformance import lasting, limits, opening, promises, serving, updates, viewers
from streamtrans.conformance.kit import CHUNK_MS, RATE, Check, Kit, Outcome, name_of, outcome
from streamtrans.core import BadConfig
from streamtrans.wire import CapabilitiesResponse, JsonForm, ProtoForm

if TYPE_CHECKING:
    from streamtrans.client.over_web import WebCarrier

__all__ = ["CHECKS", "CHUNK_MS", "RATE", "Form", "Kit", "Outcome", "Tls", "chosen", "kit_for", "outcome"]

Form = Literal["proto", "json"]
"""How messages are framed on a WebSocket."""

CHECKS: dict[str, Check] = {
    name_of(check): check
    for room in (opening, promises, limits, updates, lasting, viewers, serving)
    for check in room.CHECKS
}
"""Name → check."""


def chosen(only: Iterable[str]) -> list[Check]:
    """Return the checks whose names begin with one of ``only``; all of them, where it is empty.

    Raises:
        BadConfig: one begins no name.
    """
    wanted = tuple(only)
    for each in wanted:
        if not any(name.startswith(each) for name in CHECKS):
            raise BadConfig(f"there is no check {each!r}; there are {', '.join(CHECKS)}")
    return [check for name, check in CHECKS.items() if not wanted or name.startswith(wanted)]


@asynccontextmanager
async def kit_for(
    target: str,
    sound: bytes,
    *,
    form: Form = "proto",
    tls: Tls | None = None,
    key: str | None = None,
    targets: tuple[str, ...] = (),
    source: tuple[str, ...] = (),
    patience_s: float = 40.0,
) -> AsyncIterator[Kit]:
    """Give what checks need, for the server at ``target``.

    Raises:
        BadConfig: there can't be such a connection, or two languages are lacking.
        ClientError: nobody answers there.
    """
    carrier = carrier_to(target, tls, key)
    over: Literal["gRPC", "WebSocket, protobuf", "WebSocket, JSON"] = "gRPC"
    if "://" in target:
        cast("WebCarrier", carrier).form = JsonForm if form == "json" else ProtoForm
        over = "WebSocket, JSON" if form == "json" else "WebSocket, protobuf"
    elif form == "json":
        raise BadConfig("--form json is for WebSockets: write ws://host:port")
    await carrier.open()
    try:
        offers = await carrier.capabilities(patience_s)
        languages = list(targets) or _written(offers, source)
        if len(languages) < 2:
            raise BadConfig("the checks need two languages: name them by --to")
        yield Kit(carrier, over, offers, sound, (languages[0], languages[1]), source, patience_s)
    finally:
        await carrier.close()


def _written(offers: CapabilitiesResponse, source: tuple[str, ...]) -> list[str]:
    """Return languages that the server writes, of what is spoken where that is known."""
    pairs = {each.source: list(each.targets) for each in offers.translations}
    return next((pairs[spoken] for spoken in source if spoken in pairs), list(offers.languages))
