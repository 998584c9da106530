"""``streamtrans conformance``: whether a server keeps the protocol, check by check."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrans.cli.demo import RECORDING
from streamtrans.core import BadConfig, StreamtransError

if TYPE_CHECKING:
    from streamtrans.conformance import Outcome

_LONGEST_S = 6.0
"""Of the recording: somebody speaks, and stops once."""

_STYLES = {"pass": "green", "fail": "bold red", "not tried": "yellow"}


def conformance(
    target: Annotated[str, typer.Argument(help="host:port of gRPC; ws://host:port or wss://host:port of HTTP.")],
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="Checks whose names begin like this. Repeatable.", show_default="all")
    ] = None,
    form: Annotated[str, typer.Option(help="Messages on a WebSocket: proto, or json.")] = "proto",
    file: Annotated[Path, typer.Option(help="A recording in which somebody speaks.")] = RECORDING,
    to: Annotated[
        list[str] | None, typer.Option(help="Two languages to write. Repeatable.", show_default="the first offered")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", help="What is spoken.", show_default="any")] = None,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that a check may take.")] = 40.0,
    key: Annotated[Path | None, typer.Option(help="The key, in a file, that the server asks for.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt gRPC.")] = False,
    tls_ca: Annotated[Path | None, typer.Option(help="Encrypt, and trust this certificate (PEM).")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Encrypt, and show this certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was seen as one JSON document.")] = False,
) -> None:
    """Check whether a server keeps the protocol of streamtrans, whoever wrote it.

    streamtrans conformance localhost:50051

    streamtrans conformance ws://localhost:8080 --form json --only promises --only lasting

    The exit status is 0 if all checks pass that could be tried, 1 if one fails, 2 if nobody answers.
    """
    from streamtrans.client import Tls, Unavailable

    if form not in ("proto", "json"):
        raise BadConfig(f"--form is {form!r}; use proto or json")
    if (tls_cert is None) != (tls_key is None):
        raise BadConfig("a client certificate needs both --tls-cert and --tls-key")
    encrypted = Tls(_read(tls_ca), _read(tls_key), _read(tls_cert)) if tls or tls_ca or tls_cert else None
    asked = {"targets": tuple(to or ()), "source": () if source is None else (source,), "patience_s": patience}
    secret = _read(key)
    show = (lambda _: None) if as_json else _shower()
    wishes = {"form": form, "tls": encrypted, "key": None if secret is None else secret.decode().strip(), **asked}
    try:
        about, outcomes = asyncio.run(_run(target, _sound(file), only or [], wishes, show))
    except Unavailable as error:
        raise StreamtransError(
            f"{target} isn't serving ({error.message}); give the host:port or ws://host:port of a server that is, such"
            " as one that `streamtrans serve` starts"
        ) from error
    counts = Counter[str](each.verdict for each in outcomes)
    if as_json:
        checks = [asdict(each) | {"seconds": round(each.seconds, 3)} for each in outcomes]
        typer.echo(json.dumps({"target": target, **about, "verdicts": counts, "checks": checks}, ensure_ascii=False))
    else:
        told = ", ".join(f"{counts[verdict]} {word}" for verdict, word in _WORDS.items() if counts[verdict])
        typer.echo(f"\n{target} ({about['over']}, {about['model']}): {told}")
    if counts["fail"]:
        raise typer.Exit(1)


_WORDS = {"pass": "passed", "fail": "failed", "not tried": "not tried"}


async def _run(
    target: str, sound: bytes, only: list[str], wishes: dict[str, Any], show: Callable[[Outcome], None]
) -> tuple[dict[str, str], list[Outcome]]:
    from streamtrans.conformance import chosen, kit_for, outcome

    checks, outcomes = chosen(only), []
    async with kit_for(target, sound, **wishes) as kit:
        for check in checks:
            outcomes.append(await outcome(check, kit))
            show(outcomes[-1])
        return {"over": kit.over, "model": kit.offers.model, "server_version": kit.offers.server_version}, outcomes


def _shower() -> Callable[[Outcome], None]:
    """Return what prints the line of a check."""
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(outcome: Outcome) -> None:
        line = Text(f"{outcome.verdict:10}", _STYLES[outcome.verdict]) + Text(outcome.name, "bold")
        console.print(line + Text(f"  {outcome.seen}"))
        if outcome.verdict == "fail":
            console.print(Text(f"{'':10}{outcome.says}", "dim"))

    return show


def _sound(path: Path) -> bytes:
    """Return the beginning of a recording, in whole chunks, as the checks send it."""
    from streamtrans.audio import read_audio
    from streamtrans.conformance import CHUNK_MS, RATE

    samples = read_audio(path)
    chunk = RATE * CHUNK_MS // 1000
    whole = min(len(samples), round(_LONGEST_S * RATE)) // chunk * chunk
    if whole < RATE:
        raise StreamtransError(f"{path} is shorter than a second; give a recording in which somebody speaks")
    scaled = (samples[:whole] * 32_767).round().clip(-32_768, 32_767)
    return bytes(scaled.astype("<i2").tobytes())


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadConfig(f"{path} can't be read: {error.strerror}") from error
