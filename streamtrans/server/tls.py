"""What a server listens with: credentials that were looked at before anybody is locked out by them."""

from __future__ import annotations

import ipaddress
import ssl

import grpc

from streamtrans.core import BadConfig
from streamtrans.server.config import Tls


def credentials(tls: Tls) -> grpc.ServerCredentials:
    """Read the files of ``tls``.

    Raises:
        BadConfig: one can't be read, certificate and key are no PEM files that belong together, or no certificate of
            clients' authorities is in the file that should hold them.
    """
    try:
        chain, key = tls.certificate.read_bytes(), tls.key.read_bytes()
        roots = tls.client_roots.read_bytes() if tls.client_roots is not None else None
    except OSError as error:
        raise BadConfig(f"a TLS file can't be read: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")  # without one, OpenSSL asks the terminal
    except (ssl.SSLError, ValueError) as error:
        raise BadConfig(
            f"{tls.certificate} and {tls.key} are no certificate and key, in PEM and without a password, that belong "
            f"together: {error}"
        ) from error
    if roots is not None:
        try:
            context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise BadConfig(
                f"{tls.client_roots} holds no certificate (PEM) that could sign those of clients, so nobody could "
                f"be let in: {error}"
            ) from error
    return grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=roots is not None)


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach what listens on ``host``; unknown names can't."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False
