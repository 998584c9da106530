"""Endpoints in the shapes of other services, so that their clients call here once their address is changed.

Law: each is a translation onto the one call that there is: the same captions, keys, limits and refusals, otherwise
worded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from streamtrans.foreign import Table
from streamtrans.server.dropin.desk import Desk

__all__ = ["ENDPOINTS", "Desk", "dropin_routes"]

Routes = Callable[[Desk], Iterable[web.RouteDef]]

ENDPOINTS: Table[Routes] = Table(
    "endpoint",
    {
        "deepgram": "streamtrans.server.dropin.deepgram:routes",
        "openai": "streamtrans.server.dropin.openai:routes",
    },
)
"""Whose clients may call → what returns the paths that they call."""


def dropin_routes(desk: Desk) -> list[web.RouteDef]:
    """Return all paths of all endpoints."""
    return [route for name in ENDPOINTS for route in ENDPOINTS.load(name)(desk)]
