"""Signed tokens: who has a signer's secret lets others in for a while, without the server keeping a list of them.

A token is a JWT: ``sub`` names its holder, ``aud`` is ``streamtrans``, ``iat`` and ``exp`` say when it holds,
``rights`` what for, ``session`` which one alone may be watched; quotas are named as those of keys.

Law: what isn't signed by a signer of the file, with that signer's algorithm, is worth nothing, whatever it says of
itself.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jwt

from streamtrans.core import BadConfig, needs
from streamtrans.foreign.values import BadValue, typed
from streamtrans.server.tables import read_tables

AUDIENCE = "streamtrans"
RIGHTS = ("speak", "watch")
LONGEST_S = 86_400
"""What a token may hold for: nobody can take one back."""

Algorithm = Literal["HS256", "EdDSA"]

_LEAST_SECRET = 32
"""Bytes: as many as the hash has."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs tokens, and what their signatures are tried with.

    Raises:
        BadConfig: what its algorithm needs is missing or too short.
    """

    algorithm: Algorithm
    secret: str | None = None
    """Of HS256: whoever has it can sign."""
    public_key: str | None = None
    """Of EdDSA, PEM: all that a server needs."""
    private_key: str | None = None
    """Of EdDSA, PEM: only where tokens are made."""

    def __post_init__(self) -> None:
        """Check all of it."""
        if self.algorithm == "HS256" and len((self.secret or "").encode()) < _LEAST_SECRET:
            raise BadConfig(f"secret must have {_LEAST_SECRET} bytes or more, as `streamtrans key` writes it")
        if self.algorithm == "EdDSA":
            _load_cryptography()
            if self.public_key is None:
                raise BadConfig("public_key is missing: EdDSA is tried with it")
            try:
                jwt.get_algorithm_by_name("EdDSA").prepare_key(self.public_key)
            except (ValueError, jwt.InvalidKeyError) as error:
                raise BadConfig(f"public_key is no PEM of an Ed25519 key: {error}") from error

    @property
    def tries(self) -> str:
        """What signatures are tried with."""
        return (self.secret if self.algorithm == "HS256" else self.public_key) or ""

    @property
    def signs(self) -> str | None:
        """What signs; ``None`` where only servers are."""
        return self.secret if self.algorithm == "HS256" else self.private_key


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says that holds."""

    sub: str
    iat: float
    exp: float
    aud: str
    rights: tuple[Literal["speak", "watch"], ...] = ("speak",)
    session: str | None = None
    streams: int | None = None
    streams_per_minute: int | None = None
    minutes_per_day: float | None = None
    signer: str = field(default="", compare=False)

    @property
    def quotas(self) -> dict[str, int | float]:
        """Those that there are."""
        said = {name: getattr(self, name) for name in ("streams", "streams_per_minute", "minutes_per_day")}
        return {name: value for name, value in said.items() if value is not None}


class Tokens:
    """The signers that a server trusts.

    Args:
        path: TOML, one table per signer, named as the header ``kid`` of its tokens.

    Raises:
        BadConfig: the file can't be read, or something in it is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._signers = read_signers(path)

    def claims(self, token: str) -> Claims | None:
        """Return what ``token`` says, ``None`` where it isn't signed, has expired, is for others or makes no sense."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            signer = self._signers.get(kid) if isinstance(kid, str) else None
            if signer is None:
                return None
            said: dict[str, Any] = jwt.decode(
                token,
                signer.tries,
                algorithms=[signer.algorithm],
                audience=AUDIENCE,
                options={"require": ["sub", "aud", "iat", "exp"]},
            )
            claims: Claims = typed(Claims, {**said, "signer": kid}, "token")
        except (jwt.InvalidTokenError, BadValue):
            return None
        sound = claims.sub and claims.exp - claims.iat <= LONGEST_S and all(each > 0 for each in claims.quotas.values())
        return claims if sound else None


def read_signers(path: Path) -> dict[str, Signer]:
    """Return name → signer.

    Raises:
        BadConfig: the file can't be read, or something in it is wrong.
    """
    return read_tables(path, Signer, "signers")


def add_signer(path: Path, name: str, algorithm: Algorithm) -> None:
    """Write a file with one signer, for its owner alone.

    Raises:
        BadConfig: the file can't be written, or EdDSA lacks its package.
    """
    lines = [f"[{name}]", f'algorithm = "{algorithm}"']
    if algorithm == "HS256":
        lines.append(f'secret = "{secrets.token_urlsafe(48)}"')
    else:
        private, public = _key_pair()
        lines += [f'public_key = """\n{public}"""', f'private_key = """\n{private}"""  # not for servers']
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"the signers {path} can't be written: {error.strerror}") from error


def mint(
    path: Path,
    name: str,
    minutes: float,
    *,
    rights: Sequence[str] = ("speak",),
    session: str | None = None,
    quotas: dict[str, int | float | None] | None = None,
) -> str:
    """Return a token of the file's first signer, which holds from now on for so many minutes.

    Raises:
        BadConfig: there is none that can sign, or the token would be refused.
    """
    signers = {each: signer for each, signer in read_signers(path).items() if signer.signs is not None}
    if not signers:
        raise BadConfig(f"{path} has nobody who signs: EdDSA needs its private_key for that")
    kid, signer = next(iter(signers.items()))
    now = int(time.time())
    said: dict[str, Any] = {"sub": name, "aud": AUDIENCE, "iat": now, "exp": now + round(60 * minutes)}
    said |= {"rights": list(rights)} | ({"session": session} if session is not None else {})
    said |= {each: value for each, value in (quotas or {}).items() if value is not None}
    token: str = jwt.encode(said, signer.signs or "", signer.algorithm, headers={"kid": kid})
    if Tokens(path).claims(token) is None:
        raise BadConfig(
            f"no server would take this token: it holds for more than 0 and up to {LONGEST_S // 60} minutes, "
            f"its rights are some of {', '.join(RIGHTS)}, and quotas are more than 0"
        )
    return token


def _load_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 - jwt finds it
    except ImportError as error:
        raise BadConfig(needs("a signer with EdDSA", "cryptography", "tokens")) from error


def _key_pair() -> tuple[str, str]:
    """Return a new private key and its public one, in PEM."""
    _load_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()
