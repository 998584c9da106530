"""``streamtrans key``: a key for somebody who may call a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, - and _.")],
    keys: Annotated[Path, typer.Option(help="The server's file of keys; made where there is none.")],
    *,
    streams: Annotated[int | None, typer.Option(help="Streams at once.", show_default=False)] = None,
    streams_per_minute: Annotated[int | None, typer.Option(help="New streams per minute.", show_default=False)] = None,
    minutes_per_day: Annotated[float | None, typer.Option(help="Minutes of audio per day.", show_default=False)] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it ends, such as 2027-01-31.", show_default=False)
    ] = None,
) -> None:
    """Print a new key, and add its hash to the server's file of keys; the key itself is kept nowhere else.

    streamtrans key hall --keys keys.toml --streams 4

    streamtrans serve --keys keys.toml

    streamtrans-mic --to de --key hall.key
    """
    from streamtrans.server.keys import add_key

    quotas = {
        "streams": streams,
        "streams_per_minute": streams_per_minute,
        "minutes_per_day": minutes_per_day,
        "expires": expires,
    }
    typer.echo(add_key(keys, name, quotas))
    typer.echo(f"{keys} knows {name}; start the server again to let it in", err=True)
