"""Where a server listens: names and addresses of both kinds, and why one can't be had."""

from __future__ import annotations

import os
import socket

from streamtrans.core import BadConfig


def address(host: str, port: int) -> str:
    """Return ``host:port``, in which an IPv6 address stands in brackets; a Unix socket has no port."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def refuse_taken(host: str, port: int) -> None:
    """Find out whether one can listen there, before gRPC tries and tells less.

    Raises:
        BadConfig: the name or address isn't this machine's, the port is taken, or not ours to take.
    """
    if host.startswith("unix:"):
        return
    where = address(host, port)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise BadConfig(f"can't listen on {where}: there is no such address") from error
    kind, how, protocol, _, place = found[0]
    with socket.socket(kind, how, protocol) as probe:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen(1)
        except OSError as error:
            raise BadConfig(f"can't listen on {where}: {os.strerror(error.errno or 0)}") from error
