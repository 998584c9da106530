"""Where a server listens: names and addresses of both kinds, and why one can't be had."""

from __future__ import annotations

import os
import socket

from streamtrans.core import BadConfig
from streamtrans.server.tls import is_loopback

_BACKLOG = 128
"""Connections that wait to be taken."""

_EVERYWHERE = ("0.0.0.0", "::", "")
"""Hosts that stand for all addresses of the machine."""


def address(host: str, port: int) -> str:
    """Return ``host:port``, in which an IPv6 address stands in brackets; a Unix socket has no port."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def found_at(host: str) -> str | None:
    """Return the address under which others in the network find what listens on ``host``; ``None``: under none."""
    if is_loopback(host):
        return None
    if host.strip("[]") not in _EVERYWHERE:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system only says which way it would go
        except OSError:
            return None
        found: str = probe.getsockname()[0]
    return None if is_loopback(found) else found


def refuse_taken(host: str, port: int) -> None:
    """Find out whether one can listen there, before gRPC tries and tells less; raises what :func:`bound` does."""
    if not host.startswith("unix:"):
        bound(host, port).close()


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, and may be listened on.

    Raises:
        BadConfig: the name or address isn't this machine's, the port is taken, or not ours to take.
    """
    where = address(host, port)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise BadConfig(f"can't listen on {where}: there is no such address") from error
    kind, how, protocol, _, place = found[0]
    listener = socket.socket(kind, how, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] is everything, as gRPC has it
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BadConfig(f"can't listen on {where}: {os.strerror(error.errno or 0)}") from error
    return listener
