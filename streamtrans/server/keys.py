"""API keys: who may call, and how much of it.

Law: who has no key is refused before anything else is done for him, and of a key only its hash is kept. What one key
uses up, no other key feels.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships none

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.foreign.values import BadValue, typed
from streamtrans.server.intake import Bucket
from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal, exhausted
from streamtrans.server.tables import read_tables
from streamtrans.server.tokens import Claims, Tokens

_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DAY_S = 86_400.0
_MINUTE_MS = 60_000

_MOST_NAMES = 10_000
"""Holders of tokens whose quotas are remembered; of more, who called longest ago and has no stream is forgotten."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder of one key may do; ``None`` bounds nothing.

    Raises:
        BadConfig: a value is no hash, no time or too small.
    """

    sha256: str
    """Of the key, in 64 hexadecimal digits. Keys are random and long, so that a fast hash can't be guessed back. Of
    signed tokens, whose quotas are for all of one name together: of that name."""
    streams: int | None = None
    """At once."""
    streams_per_minute: int | None = None
    """New ones; so many may also come at once."""
    minutes_per_day: float | None = None
    """Of audio, silence included. It fills up again bit by bit, and is full when the server starts."""
    expires: str | None = None
    """When it ends, such as ``2027-01-31`` or ``2027-01-31T12:00:00+01:00``; UTC where no zone is said."""

    def __post_init__(self) -> None:
        """Check all of it."""
        if not _HASH.fullmatch(self.sha256):
            raise BadConfig("sha256 must be the key's hash in 64 hexadecimal digits, as `streamtrans key` writes it")
        for name in ("streams", "streams_per_minute", "minutes_per_day"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadConfig(f"{name} is {value}; give more than 0, or leave it out")
        _moment(self.expires)


class Spent(Refusal):
    """A quota is used up."""


class Holder:
    """Who calls with one key, over all calls.

    Args:
        name: what the file calls it.
        grant: what it may do; ``None``: anything, as nobody is asked for keys.
        retry_after_ms: what is told to who has too many streams.
        clock: seconds.
    """

    def __init__(
        self, name: str = "", grant: Grant | None = None, retry_after_ms: int = 1_000, clock: Clock = time.monotonic
    ) -> None:
        self.name = name
        self._retry_after_ms = retry_after_ms
        self._streams = None if grant is None else grant.streams
        self._open = 0
        self._new = self._minutes = None
        self.ends_at = None if grant is None else _moment(grant.expires)
        if grant is not None and (count := grant.streams_per_minute) is not None:
            self._new = Bucket(count / 60, count - 1, clock)  # one that is over is what the next one must wait for
        if grant is not None and (minutes := grant.minutes_per_day) is not None:
            self._minutes = Bucket(60 * minutes / _DAY_S, 60 * minutes, clock)

    @property
    def busy(self) -> bool:
        """Whether he has a stream."""
        return self._open > 0

    def refuse_when_full(self) -> None:
        """Turn away who has all of the streams that the key may have at once, or no minutes left.

        Raises:
            Refusal: that is so.
        """
        if self._streams is not None and self._open >= self._streams:
            raise self._spent(f"{self._streams} streams at once", self._retry_after_ms, "key_streams")
        self._hear(0)

    @contextmanager
    def place(self, *, new: bool = False) -> Iterator[None]:
        """Hold the place of a stream for the block; one that is resumed isn't new.

        Raises:
            Refusal: what :meth:`refuse_when_full` does, or too many new ones have come lately.
        """
        self.refuse_when_full()
        if new and self._new is not None:
            if wait_s := self._new.spend(0):
                raise self._spent("new streams per minute", round(1000 * wait_s) + 1, "key_rate")
            self._new.spend(1)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def heard(self, samples: int) -> None:
        """Count audio.

        Raises:
            Refusal: it is more than the key may have.
        """
        self._hear(samples / SAMPLE_RATE)

    def _hear(self, seconds: float) -> None:
        if self._minutes is not None and (wait_s := self._minutes.spend(seconds)):
            raise self._spent("minutes of audio per day", max(_MINUTE_MS, round(1000 * wait_s) + 1), "key_minutes")

    def _spent(self, what: str, retry_after_ms: int, reason: str) -> Spent:
        refusal = exhausted(f"the key {self.name} has used up its {what}", retry_after_ms, reason)
        violation = error_details_pb2.QuotaFailure.Violation(subject=f"key:{self.name}", description=what)
        quota = error_details_pb2.QuotaFailure(violations=[violation])
        spent = Spent(refusal.code, refusal.message, *refusal.details, quota)
        spent.reason = reason
        return spent


class Keys:
    """All keys that a server knows.

    Args:
        path: TOML, one table per key, named as logs and quotas call it; ``None``: nobody is asked for a key.
        retry_after_ms: what is told to who has too many streams.
        signers: TOML, see :mod:`streamtrans.server.tokens`; who has a token that one of them signed may call too.

    Raises:
        BadConfig: a file can't be read, or something in it is wrong.
    """

    def __init__(self, path: Path | None, retry_after_ms: int = 1_000, signers: Path | None = None) -> None:
        self._holders: dict[str, Holder] | None = None if signers is None else {}
        self._tokens = None if signers is None else Tokens(signers)
        self._retry_after_ms = retry_after_ms
        self._by_token: dict[Grant, Holder] = {}
        """Who has called with tokens lately, in the order of calling."""
        self._anybody = Holder()
        if path is not None:
            self._holders = {
                grant.sha256: Holder(name, grant, retry_after_ms) for name, grant in read_keys(path).items()
            }

    def holder(self, metadata: Metadata, right: str | None = None) -> Holder:
        """Return who calls, by the metadata of his call, for what he has the ``right``; keys have all of them.

        Args:
            metadata: of the call.
            right: one of :data:`~streamtrans.server.tokens.RIGHTS`; ``None``: what anybody with a key or a token may.

        Raises:
            Refusal: no key is there, or it is unknown or past its time; which of these isn't told. Or a token is, and
                not for this.
        """
        if self._holders is None:
            return self._anybody
        key = bearer(metadata)
        # What is looked up is a hash: how long it takes tells nothing of a key.
        holder = (self._holders.get(hashed(key)) or self._signed(key, right)) if key else None
        if holder is None or (holder.ends_at is not None and datetime.now(UTC) >= holder.ends_at):
            problem = "this server asks for a key that it knows: send the metadata `authorization: Bearer KEY`"
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, problem)
        return holder

    def viewing(self, token: str, session: str) -> Claims | None:
        """Return what a signed token says that lets one watch; ``None`` where it is none, or holds no more.

        Args:
            token: what a viewer shows.
            session: which one he asks for; empty: the only one of his token.

        Raises:
            Refusal: it is for something else, or for another session.
        """
        claims = self._claims(token, "watch")
        if claims is not None and claims.session is not None and session not in ("", claims.session):
            raise _forbidden("this token is for another session")
        return claims

    def _claims(self, token: str, right: str | None) -> Claims | None:
        claims = None if self._tokens is None else self._tokens.claims(token)
        if claims is not None and right is not None and right not in claims.rights:
            raise _forbidden(f"this token is for {', '.join(claims.rights) or 'nothing'}, and not to {right}")
        return claims

    def _signed(self, token: str, right: str | None) -> Holder | None:
        """Return who has ``token``, ``None`` where it is none: one holder for all tokens of one name and its quotas."""
        claims = self._claims(token, right)
        if claims is None:
            return None
        quotas: dict[str, Any] = claims.quotas
        grant = Grant(hashed(f"{claims.signer}/{claims.sub}"), **quotas)
        holder = self._by_token.pop(grant, None) or Holder(claims.sub, grant, self._retry_after_ms)
        self._by_token[grant] = holder
        if len(self._by_token) > _MOST_NAMES:
            idle = next((old for old, each in self._by_token.items() if not each.busy), None)
            if idle is not None:
                del self._by_token[idle]
        return holder


def bearer(metadata: Metadata) -> str:
    """Return the key or token that came with a call; empty without one."""
    said = [value for name, value in metadata if name.lower() == "authorization" and isinstance(value, str)]
    scheme, _, key = said[-1].partition(" ") if said else ("", "", "")
    return key.strip() if scheme.lower() == "bearer" else ""


def _forbidden(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, message)


def read_keys(path: Path) -> dict[str, Grant]:
    """Return name → grant.

    Raises:
        BadConfig: the file can't be read, or something in it is wrong.
    """
    grants = read_tables(path, Grant, "keys")
    if len({grant.sha256 for grant in grants.values()}) < len(grants):
        raise BadConfig(f"{path}: two names have one key, so their quotas can't be told apart")
    return grants


def add_key(path: Path, name: str, quotas: dict[str, int | float | str | None]) -> str:
    """Add a new key to the file, which is made where there is none, and return it: it is written nowhere else.

    Raises:
        BadConfig: the name is taken or can't be one, a quota is wrong, or the file can't be written.
    """
    if not _NAME.fullmatch(name):
        raise BadConfig(f"{name!r} can't name a key; use letters, digits, - and _")
    if path.exists() and name in read_keys(path):
        raise BadConfig(f"{path} has a key {name}; take it out first, or choose another name")
    key = "st_" + secrets.token_urlsafe(32)
    said = {each: value for each, value in quotas.items() if value is not None}
    try:
        typed(Grant, {"sha256": hashed(key), **said}, name)
    except BadValue as error:
        raise BadConfig(str(error)) from error
    lines = [f"[{name}]", f'sha256 = "{hashed(key)}"']
    lines += [f'{each} = "{value}"' if isinstance(value, str) else f"{each} = {value}" for each, value in said.items()]
    try:
        made = not path.exists()
        with path.open("a", encoding="utf-8") as file:
            if made:
                path.chmod(0o600)
            file.write(("" if made else "\n") + "\n".join(lines) + "\n")
    except OSError as error:
        raise BadConfig(f"the keys {path} can't be written: {error.strerror}") from error
    return key


def hashed(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadConfig(f"expires is {text!r}; give a time such as 2027-01-31 or 2027-01-31T12:00:00+01:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
