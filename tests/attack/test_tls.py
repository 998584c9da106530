"""Encryption that would lock everybody out, or isn't there, is told before anybody connects."""

import shutil
import subprocess

import pytest

from streamtrans.client import ClientError, Tls, TranslationClient
from streamtrans.core import BadConfig
from streamtrans.server import Tls as ServerTls
from streamtrans.server import TranslationServer
from streamtrans.server.tls import is_loopback
from tests.certificates import make_certificate


def made(folder, name):
    (folder / name).mkdir()
    return make_certificate(folder / name)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda files, folder: {"key": made(folder, "other")[1]}, "belong together"),
        (lambda files, folder: {"certificate": files["key"]}, "belong together"),
        (lambda files, folder: {"key": files["certificate"]}, "belong together"),
        (lambda files, folder: {"key": encrypted(files["key"], folder)}, "without a password"),
        (lambda files, folder: {"certificate": folder / "nowhere"}, "can't be read"),
        (lambda files, folder: {"client_roots": folder / "nowhere"}, "can't be read"),
        (lambda files, folder: {"client_roots": folder}, "can't be read"),
        (lambda files, folder: {"client_roots": written(folder, b"")}, "nobody could be let in"),
        (lambda files, folder: {"client_roots": written(folder, b"\xff\0 no PEM")}, "nobody could be let in"),
        (lambda files, folder: {"client_roots": files["key"]}, "nobody could be let in"),
    ],
)
async def test_files_that_would_let_nobody_in_are_refused_by_name(house, tmp_path, spoil, told):
    cert, key = made(tmp_path, "ours")
    files = {"certificate": cert, "key": key}
    spoilt = spoil(files, tmp_path)
    with pytest.raises(BadConfig, match=told) as refused:
        async with TranslationServer(house.configured(tls=ServerTls(**files | spoilt)), house.served):
            pass
    assert str(next(iter(spoilt.values()))) in str(refused.value)


def written(folder, data):
    (folder / "roots").write_bytes(data)
    return folder / "roots"


def encrypted(key, folder):
    out = folder / "locked.pem"
    words = [shutil.which("openssl"), "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", out]
    subprocess.run(words, check=True, capture_output=True)
    return out


async def test_ours_are_let_in_and_strangers_are_not(house, tmp_path):
    (cert, key), (other, other_key) = made(tmp_path, "ours"), made(tmp_path, "strangers")
    config = house.configured(tls=ServerTls(cert, key, client_roots=cert))
    engine = house.instant()
    async with TranslationServer(config, lambda: house.served(engine)) as server:
        await server.ready()
        read = type(cert).read_bytes
        warm = len(engine.requests)
        for tls, welcome in (
            (Tls(read(cert), read(key), read(cert)), True),
            (Tls(read(cert)), False),
            (Tls(read(cert), read(other_key), read(other)), False),
            (None, False),
        ):
            async with TranslationClient(f"localhost:{server.port}", tls=tls) as client:
                try:
                    await client.capabilities()
                    await house.collect(client, house.speech(0.1, 0.5, 0.5))
                except ClientError:
                    assert not welcome
                    assert len(engine.requests) == warm  # nothing was done for a stranger
                else:
                    assert welcome
                    assert len(engine.requests) > warm
                    warm = len(engine.requests)


@pytest.mark.parametrize(("host", "secure"), [("0.0.0.0", False), ("0.0.0.0", True), ("127.0.0.1", False)])
async def test_a_listener_without_encryption_on_the_network_says_so(house, tmp_path, caplog, host, secure):
    tls = ServerTls(*made(tmp_path, "ours")) if secure else None
    async with TranslationServer(house.configured(host=host, tls=tls), house.served):
        assert ("WITHOUT ENCRYPTION" in caplog.text) == (host == "0.0.0.0" and not secure)


@pytest.mark.parametrize("guard", ["nobody", "keys", "certificates"])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_a_listener_on_the_network_that_lets_everybody_in_says_so(house, tmp_path, caplog, host, guard):
    (tmp_path / "keys.toml").touch()
    keys = tmp_path / "keys.toml" if guard == "keys" else None
    certificate, key = made(tmp_path, "ours")
    tls = ServerTls(certificate, key, certificate if guard == "certificates" else None)
    async with TranslationServer(house.configured(host=host, tls=tls, keys=keys), house.served):
        assert ("WITHOUT KEYS" in caplog.text) == (host == "0.0.0.0" and guard == "nobody")
        assert "WITHOUT ENCRYPTION" not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]", "::1", "unix:/tmp/socket"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_what_may_be_the_network_is_no_loopback(host):
    assert not is_loopback(host)
