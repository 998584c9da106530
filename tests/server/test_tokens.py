"""Signed tokens: what isn't signed, has expired or is for others is refused before any work; quotas are the name's."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import stat
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import jwt
import pytest

from streamtrans.cli import main
from streamtrans.client import Caption, Denied, StreamOptions, TranslationClient
from streamtrans.core import BadConfig
from streamtrans.server import TranslationServer
from streamtrans.server.keys import Keys, add_key
from streamtrans.server.refusal import Refusal
from streamtrans.server.tokens import AUDIENCE, Tokens, add_signer, mint, read_signers

CODE = grpc.StatusCode


@pytest.fixture(params=["HS256", "EdDSA"])
def signers(request, tmp_path):
    path = tmp_path / "signers.toml"
    add_signer(path, "main", request.param)
    return path


def signed(path, headers=None, signer=None, **changes):
    """A token with some of its claims changed; ``None`` leaves one out."""
    now = int(time.time())
    said = {"sub": "guest", "aud": AUDIENCE, "iat": now, "exp": now + 60} | changes
    said = {name: value for name, value in said.items() if value is not None}
    by = signer or read_signers(path)["main"]
    return jwt.encode(said, by.signs, by.algorithm, headers={"kid": "main"} | (headers or {}))


def altered(token):
    """The same token for somebody else, with the old signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "king"}).encode()).decode().rstrip("=")
    return f"{head}.{other}.{signature}"


def confused(path):
    """A token signed with what everybody may know: the public key as if it were a secret."""
    known = read_signers(path)["main"].public_key or "x" * 32
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "kid": "main", "typ": "JWT"}, {"sub": "x", "aud": AUDIENCE, "iat": 0, "exp": 9e9})
    )
    signature = hmac.new(known.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def unsigned(_path):
    now = int(time.time())
    return jwt.encode({"sub": "x", "aud": AUDIENCE, "iat": now, "exp": now + 60}, None, "none", headers={"kid": "main"})


def by_a_stranger(path):
    other = path.with_name("other.toml")
    if not other.exists():
        add_signer(other, "main", read_signers(path)["main"].algorithm)
    return signed(path, signer=read_signers(other)["main"])


FORGED = {
    "expired": lambda path: signed(path, iat=int(time.time()) - 120, exp=int(time.time()) - 60),
    "from the future": lambda path: signed(path, iat=int(time.time()) + 600, exp=int(time.time()) + 900),
    "for another service": lambda path: signed(path, aud="others"),
    "for nobody": lambda path: signed(path, aud=None),
    "of nobody": lambda path: signed(path, sub=None),
    "of an empty name": lambda path: signed(path, sub=""),
    "without end": lambda path: signed(path, exp=None),
    "without beginning": lambda path: signed(path, iat=None),
    "for too long": lambda path: signed(path, exp=int(time.time()) + 10**6),
    "of an unknown signer": lambda path: signed(path, headers={"kid": "other"}),
    "with a signer that is no name": lambda path: signed(path, headers={"kid": "../main"}),
    "with a right that there isn't": lambda path: signed(path, rights=["reign"]),
    "with a quota of nothing": lambda path: signed(path, streams=0),
    "with a quota that is no number": lambda path: signed(path, streams="many"),
    "with a claim that there isn't": lambda path: signed(path, admin=True),
    "altered": lambda path: altered(signed(path)),
    "by a stranger": by_a_stranger,
    "signed with the public key": confused,
    "unsigned": unsigned,
    "cut": lambda path: signed(path)[:-4],
    "no token": lambda path: "a.b.c",
    "very long": lambda path: "a" * 5_000,
}


@pytest.mark.parametrize("how", FORGED)
async def test_what_is_forged_or_expired_is_refused_before_any_work(house, signers, how):
    engine, token = house.instant(), FORGED[how](signers)
    async with house.running(house.served(engine), house.configured(signers=signers)) as (server, _):
        before = len(engine.requests)
        async with TranslationClient(f"127.0.0.1:{server.port}", key=token) as client:
            with pytest.raises(Denied) as caught:
                await house.collect(client, house.speech(0.1, 1.0))
            assert caught.value.code is CODE.UNAUTHENTICATED
            with pytest.raises(Denied):
                await client.capabilities()
        assert len(engine.requests) == before


async def test_who_has_a_token_is_served_and_keys_hold_beside_it(house, signers, tmp_path):
    keys = tmp_path / "keys.toml"
    known = add_key(keys, "hall", {})
    async with house.running(config=house.configured(signers=signers, keys=keys)) as (server, nobody):
        for entry in (mint(signers, "guest", 15), known):
            async with TranslationClient(f"127.0.0.1:{server.port}", key=entry) as client:
                events = await house.collect(client, house.speech(0.1, 1.0, 0.5), StreamOptions(("de",)))
                assert any(isinstance(event, Caption) and event.final for event in events)
        with pytest.raises(Denied):
            await nobody.capabilities()


async def test_a_token_to_watch_lets_nobody_speak(house, signers):
    engine = house.instant()
    async with house.running(house.served(engine), house.configured(signers=signers)) as (server, _):
        before = len(engine.requests)
        token = mint(signers, "guest", 15, rights=("watch",))
        async with TranslationClient(f"127.0.0.1:{server.port}", key=token) as client:
            with pytest.raises(Denied, match="this token is for watch, and not to speak"):
                await house.collect(client, house.speech(0.1, 1.0))
            assert await client.capabilities()
        assert len(engine.requests) == before


def bearer(token):
    return [("authorization", f"Bearer {token}")]


@asynccontextmanager
async def on_air(house, signers, engine):
    """Two speakers, and a viewer with ``see(token, **asked)``."""
    config = house.configured(signers=signers)
    async with asyncio.timeout(30), house.running(house.served(engine), config) as (server, nobody):
        address = f"127.0.0.1:{server.port}"
        async with (
            TranslationClient(address, key=mint(signers, "hall", 15)) as client,
            client.stream(StreamOptions(("de",))) as one,
            client.stream(StreamOptions(("de",))) as other,
        ):

            async def see(token, who=nobody, **asked):
                async for event in who.watch(token, "de", **asked):
                    if isinstance(event, Caption) and event.final:
                        return event.committed
                return None

            yield SimpleNamespace(address=address, one=one, other=other, see=see)


UNFIT = FORGED | {
    "none": lambda path: "",
    "a key": lambda path: "st_x",
    "to speak": lambda path: mint(path, "guest", 15),
}


@pytest.mark.parametrize("how", UNFIT)
async def test_who_may_not_watch_makes_no_work(house, signers, tmp_path, how):
    engine = house.instant()
    async with on_air(house, signers, engine) as hall:
        session_id, token, before = hall.one.started.session_id, UNFIT[how](signers), len(engine.requests)
        for asked in ({}, {"session_id": session_id}):
            with pytest.raises(Denied) as caught:
                await hall.see(token, **asked)
            assert caught.value.code is (CODE.PERMISSION_DENIED if how == "to speak" else CODE.UNAUTHENTICATED)
        assert len(engine.requests) == before


async def test_a_token_for_one_session_opens_no_other(house, signers):
    async with on_air(house, signers, house.instant()) as hall:
        mine, theirs = hall.one.started.session_id, hall.other.started.session_id
        token = mint(signers, "guest", 15, rights=("watch",), session=mine)
        with pytest.raises(Denied, match="for another session") as caught:
            await hall.see(token, session_id=theirs)
        assert caught.value.code is CODE.PERMISSION_DENIED
        with pytest.raises(Denied):
            await hall.see(mint(signers, "guest", 15, rights=("watch",), session="0" * 32))
        async with TranslationClient(hall.address, key=token) as by_header:
            seen = [asyncio.create_task(each) for each in (hall.see(token), hall.see("", by_header))]
            await hall.one.send(house.speech(0.3, 1.2, 0.6))
            assert len(set(await asyncio.gather(*seen))) == 1
        assert seen[0].result()


async def test_a_token_for_any_session_watches_the_one_that_it_names(house, signers):
    async with on_air(house, signers, house.instant()) as hall:
        token = mint(signers, "guest", 15, rights=("watch",))
        with pytest.raises(Denied):
            await hall.see(token)
        watching = asyncio.create_task(hall.see(token, session_id=hall.other.started.session_id))
        await hall.other.send(house.speech(0.3, 1.2, 0.6))
        assert await watching


async def test_who_watches_does_so_until_his_token_expires(house, signers):
    async with on_air(house, signers, house.instant()) as hall:
        now = int(time.time())
        token = signed(signers, iat=now, exp=now + 2, rights=["watch"], session=hall.one.started.session_id)
        with pytest.raises(Denied, match="expired") as caught:
            await hall.see(token)
        assert caught.value.code is CODE.UNAUTHENTICATED
        assert time.time() >= now + 2
        with pytest.raises(Denied):
            await hall.see(token)


def test_all_tokens_of_one_name_share_its_quotas_and_others_dont(signers):
    keys = Keys(None, signers=signers)

    def holder(name):
        return keys.holder(bearer(mint(signers, name, 15, quotas={"streams": 1})), "speak")

    with holder("guest").place(new=True):
        with pytest.raises(Refusal, match="the key guest has used up its 1 streams at once"):
            holder("guest").refuse_when_full()
        holder("other").refuse_when_full()
    holder("guest").refuse_when_full()


def test_of_very_many_names_those_that_are_idle_are_forgotten(signers, monkeypatch):
    monkeypatch.setattr("streamtrans.server.keys._MOST_NAMES", 3)
    keys = Keys(None, signers=signers)
    first = keys.holder(bearer(mint(signers, "first", 15)))
    with first.place():
        for number in range(6):
            keys.holder(bearer(mint(signers, f"n{number}", 15)))
        assert keys.holder(bearer(mint(signers, "first", 15))) is first
    assert len(keys._by_token) <= 4


def test_servers_need_no_private_key(tmp_path):
    path = tmp_path / "signers.toml"
    add_signer(path, "main", "EdDSA")
    token = mint(path, "guest", 15)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("private_key")], encoding="utf-8")
    assert Tokens(path).claims(token).sub == "guest"
    with pytest.raises(BadConfig, match="has nobody who signs"):
        mint(path, "guest", 15)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_file_is_its_owners_alone(signers):
    assert stat.S_IMODE(signers.stat().st_mode) == 0o600


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_the_verb_makes_signers_and_prints_tokens(tmp_path, capsys, algorithm):
    path = tmp_path / "signers.toml"
    with pytest.raises(SystemExit) as end:
        main(["key", "guest", "--sign", str(path), "--algorithm", algorithm, "--right", "watch", "--streams", "2"])
    assert not end.value.code
    claims = Tokens(path).claims(capsys.readouterr().out.strip())
    assert (claims.sub, claims.rights, claims.streams) == ("guest", ("watch",), 2)
    assert claims.exp - claims.iat == 900


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "give --keys FILE for a key, or --sign FILE"),
        (["--keys", "k.toml", "--sign", "s.toml"], "give --keys FILE for a key, or --sign FILE"),
        (["--sign", "s.toml", "--minutes", "0"], "no server would take this token"),
        (["--sign", "s.toml", "--minutes", "9999"], "up to 1440 minutes"),
        (["--sign", "s.toml", "--right", "reign"], "some of speak, watch"),
        (["--sign", "s.toml", "--streams", "-1"], "quotas are more than 0"),
        (["--sign", "s.toml", "--expires", "2027-01-01"], "--expires is for keys"),
        (["--sign", "s.toml", "--algorithm", "RS256"], "use HS256 or EdDSA"),
        (["--sign", "none/s.toml"], "can't be written"),
    ],
)
def test_what_the_verb_cant_make_is_told(tmp_path, monkeypatch, capsys, given, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["key", "guest", *given])
    assert end.value.code == 2
    assert problem in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[main]\nalgorithm = 'HS256'\nsecret = 'short'", "main.secret must have 32 bytes"),
        ("[main]\nalgorithm = 'RS256'", "algorithm"),
        ("[main]\nalgorithm = 'EdDSA'", "main.public_key is missing"),
        ("[main]\nalgorithm = 'EdDSA'\npublic_key = 'x'", "main.public_key is no PEM"),
        ("[main", "are no TOML"),
    ],
)
def test_a_file_of_signers_that_is_wrong_is_told_before_anybody_calls(house, tmp_path, text, problem):
    path = tmp_path / "signers.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig) as caught:
        TranslationServer(house.configured(signers=path), house.served)
    assert problem in str(caught.value)
