"""Where a server listens: names and addresses of both kinds, and why one can't be had."""

from __future__ import annotations

import os
import socket

from streamtrans.core import BadConfig

_BACKLOG = 128
"""Connections that wait to be taken."""


def address(host: str, port: int) -> str:
    """Return ``host:port``, in which an IPv6 address stands in brackets; a Unix socket has no port."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


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
