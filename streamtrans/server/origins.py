"""Which web pages may call: a browser says of whose page a WebSocket is, and asks nobody.

Law: without a word of whoever runs the server, only its own pages may.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from streamtrans.core import BadConfig
from streamtrans.server.tls import is_loopback

ANY = "*"


class Origins:
    """Pages that may call.

    Args:
        allowed: further origins, such as ``https://talks.example.org``; ``*``: all of them.
        host: what is listened on. On loopback, only pages of loopback names are the server's own: any other name that
            leads here is somebody's trick (DNS rebinding), or that of a proxy, which is to be allowed.

    Raises:
        BadConfig: one is no origin.
    """

    def __init__(self, allowed: Iterable[str], host: str) -> None:
        self._allowed = frozenset(map(_origin, allowed))
        self._only_loopback = is_loopback(host)

    def admit(self, origin: str | None, host: str) -> bool:
        """Whether a page of ``origin`` may call what was asked for as ``host``; programs say no origin."""
        if origin is None or ANY in self._allowed or origin.lower() in self._allowed:
            return True
        theirs = urlsplit(origin)
        if not theirs.netloc or theirs.netloc.lower() != host.lower():
            return False
        return not self._only_loopback or is_loopback(theirs.hostname or "")


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if text != ANY and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query):
        raise BadConfig(f"{text!r} is no origin; write one as https://talks.example.org, or * for any page")
    return text.lower()
