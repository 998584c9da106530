"""What a store holds of a stream can be read, and written, by who has the stream's token, and by nobody else.

```
sealed = salt ‖ data xor SHAKE256(key ‖ salt) ‖ HMAC-SHA256(other key, name ‖ salt ‖ …)      keys: HMAC(token, purpose)
```
The token is 192 random bits that only its client and the servers that serve him hold; no store has it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_SALT, _MARK = 16, 32
"""Bytes before and behind what is sealed."""


class Broken(Exception):
    """Somebody else has sealed it, or it was changed since, or lies under another name."""


def sealed(token: str, name: str, data: bytes) -> bytes:
    """Return ``data`` so that only ``token`` opens it, under the same ``name``."""
    salt = secrets.token_bytes(_SALT)
    hidden = salt + _masked(token, salt, data)
    return hidden + _mark(token, name, hidden)


def opened(token: str, name: str, data: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        Broken: it wasn't, with this token and under this name.
    """
    hidden, mark = data[:-_MARK], data[-_MARK:]
    if len(hidden) < _SALT or not hmac.compare_digest(mark, _mark(token, name, hidden)):
        raise Broken
    return _masked(token, hidden[:_SALT], hidden[_SALT:])


def _masked(token: str, salt: bytes, data: bytes) -> bytes:
    """Hide ``data``, or show it again: no salt comes twice with one token, so no mask does."""
    mask = hashlib.shake_256(_key(token, b"hide") + salt).digest(len(data))
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))


def _mark(token: str, name: str, hidden: bytes) -> bytes:
    return hmac.digest(_key(token, b"mark"), name.encode() + b"\0" + hidden, "sha256")


def _key(token: str, purpose: bytes) -> bytes:
    return hmac.digest(token.encode(), b"streamtrans store: " + purpose, "sha256")
