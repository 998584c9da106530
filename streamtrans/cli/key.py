"""``streamtrans key``: a key, or a token for a while, for somebody who may call a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamtrans.core import BadConfig


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, - and _.")],
    keys: Annotated[
        Path | None, typer.Option(help="The server's file of keys; made where there is none.", show_default=False)
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(help="Make a signed token instead, by this file of signers; made too.", show_default=False),
    ] = None,
    *,
    streams: Annotated[int | None, typer.Option(help="Streams at once.", show_default=False)] = None,
    streams_per_minute: Annotated[int | None, typer.Option(help="New streams per minute.", show_default=False)] = None,
    minutes_per_day: Annotated[float | None, typer.Option(help="Minutes of audio per day.", show_default=False)] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When a key ends, such as 2027-01-31.", show_default=False)
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long a token holds; at most a day.")] = 15.0,
    right: Annotated[
        list[str] | None, typer.Option(help="What a token is for: speak, watch. Repeatable.", show_default="speak")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="The only session that a token lets one watch.", show_default=False)
    ] = None,
    algorithm: Annotated[str, typer.Option(help="Of a new file of signers: HS256, or EdDSA.")] = "HS256",
) -> None:
    """Print a new key, and add its hash to the server's file of keys; the key itself is kept nowhere else.

    streamtrans key hall --keys keys.toml --streams 4

    streamtrans serve --keys keys.toml

    streamtrans-mic --to de --key hall.key

    Or print a token that holds for a while and is kept nowhere at all:

    streamtrans key guest --sign signers.toml --minutes 15

    streamtrans serve --signers signers.toml
    """
    from streamtrans.server.keys import add_key
    from streamtrans.server.tokens import add_signer, mint

    quotas = {"streams": streams, "streams_per_minute": streams_per_minute, "minutes_per_day": minutes_per_day}
    if (keys is None) == (sign is None):
        raise BadConfig("give --keys FILE for a key, or --sign FILE for a signed token")
    if keys is not None:
        typer.echo(add_key(keys, name, {**quotas, "expires": expires}))
        typer.echo(f"{keys} knows {name}; start the server again to let it in", err=True)
        return
    assert sign is not None
    if expires is not None:
        raise BadConfig("--expires is for keys; a token has --minutes")
    if not sign.exists():
        if algorithm not in ("HS256", "EdDSA"):
            raise BadConfig(f"--algorithm is {algorithm!r}; use HS256 or EdDSA")
        add_signer(sign, "main", "HS256" if algorithm == "HS256" else "EdDSA")
        typer.echo(f"made {sign}: whoever has it can let anybody in", err=True)
    typer.echo(mint(sign, name, minutes, rights=right or ("speak",), session=session, quotas=quotas))
