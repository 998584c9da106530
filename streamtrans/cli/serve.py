"""``streamtrans serve``: a server for live streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from streamtrans.cli.commands import expanded
from streamtrans.cli.options import Model
from streamtrans.cli.record import origin_of
from streamtrans.cli.settings import SettingsFile
from streamtrans.core import LIVE, BadConfig, CaptionChoice, EngineClosed, Group, Option
from streamtrans.runtime import ModelChoice, load

if TYPE_CHECKING:
    from streamtrans.server import Served, ServerConfig, Tls, TranslationServer


_PAGE_PORT = 8_080


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server listens, and whom it admits."""

    host: Annotated[str, Option("Address to listen on; 0.0.0.0 listens to the network (use TLS there).")] = "127.0.0.1"
    port: Annotated[int, Option("0 takes any free port.", least=0, most=65_535)] = 50_051
    max_sessions: Annotated[int, Option("Streams at once; more are refused.", least=1)] = 64
    slots: Annotated[int, Option("Texts decoded at once: more serve more streams and take more memory.", least=1)] = 16
    tls_cert: Annotated[Path | None, Option("Certificate chain (PEM); turns encryption on.")] = None
    tls_key: Annotated[Path | None, Option("Its private key (PEM).")] = None
    tls_client_ca: Annotated[Path | None, Option("Admit only clients whose certificate this one signs (PEM).")] = None
    keys: Annotated[
        Path | None,
        Option("Admit only who has a key of this file (streamtrans key), within its quotas.", metavar="FILE"),
    ] = None
    store: Annotated[
        str | None,
        Option(
            "Keep what resumable streams need to go on, their latest texts too, in this folder or at "
            "redis://HOST:PORT/NUMBER: for other servers, and for this one when it is started anew.",
            metavar="PLACE",
        ),
    ] = None

    signers: Annotated[
        Path | None,
        Option("Admit who has a token that one of this file signed (streamtrans key --sign).", metavar="FILE"),
    ] = None
    http_port: Annotated[
        int | None,
        Option("Take calls over WebSocket there, and show browsers a page (extra gateway).", least=0, most=65_535),
    ] = None
    http_host: Annotated[str, Option("The address of that port.")] = "127.0.0.1"
    page: Annotated[
        bool, Option("Show the page for live captions, on --http-port or else 8080, and open it in the browser.")
    ] = False
    allow_origin: Annotated[
        str,
        Option("Let pages of these sites call too, such as https://talks.example.org; * lets all.", metavar="ORIGINS"),
    ] = ""

    @property
    def web_port(self) -> int | None:
        """Where HTTP is listened for; ``None``: nowhere."""
        return _PAGE_PORT if self.page and self.http_port is None else self.http_port

    def tls(self) -> Tls | None:
        """Return what encryption needs, nothing where none is asked for.

        Raises:
            BadConfig: half of it is missing.
        """
        from streamtrans.server import Tls

        if self.tls_cert is not None and self.tls_key is not None:
            return Tls(self.tls_cert, self.tls_key, self.tls_client_ca)
        if self.tls_cert is not None or self.tls_key is not None or self.tls_client_ca is not None:
            why = "--tls-client-ca asks clients for certificates, which is part of encryption, and "
            raise BadConfig(f"{why if self.tls_client_ca else ''}encryption needs both --tls-cert and --tls-key")
        return None


@dataclass(frozen=True, slots=True)
class Where:
    """Where models run."""

    engine: Annotated[str, Option("local, or ray: on the nodes of a Ray cluster (docs/scale.md).", metavar="KIND")] = (
        "local"
    )
    ray_address: Annotated[str | None, Option("Of the cluster's head.", metavar="HOST:PORT")] = None
    workers: Annotated[int, Option("Models in the cluster, one per device.", least=1)] = 1

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray") or (self.engine == "ray") != (self.ray_address is not None):
            raise BadConfig(f"--engine is {self.engine!r}; use local, or ray together with --ray-address HOST:PORT")

    def served(self, choice: ModelChoice, slots: int, *, recorded: bool) -> Served:
        """Load the model, or find who has it."""
        from streamtrans.server.offer import what_is_offered, what_is_served

        if self.ray_address is None:
            loaded = load(choice, slots=slots)
            return what_is_served(loaded, choice.vad, origin_of(choice, loaded) if recorded else None)
        from streamtrans.cluster import RayEngine, hire

        gpus = 1.0 if choice.device.startswith("cuda") else 0.0
        workers = hire(self.ray_address, choice, workers=self.workers, slots=slots, gpus=gpus)
        return what_is_offered(RayEngine(*workers), choice.vad)


@dataclass(frozen=True, slots=True)
class Telling:
    """What a server keeps, counts and logs."""

    record: Annotated[
        Path | None,
        Option(
            "Keep a recording of every session in this folder: all that is said, and its captions, for "
            "streamtrans replay. By default nothing is kept.",
            metavar="DIR",
        ),
    ] = None
    record_quota: Annotated[
        int, Option("What that folder may hold; a recording beyond it ends there.", metavar="MB", least=1)
    ] = 10_000
    metrics_port: Annotated[
        int | None, Option("Answer Prometheus there, over HTTP; nothing of what is said.", least=0, most=65_535)
    ] = None
    metrics_host: Annotated[str, Option("The address of that port.")] = "127.0.0.1"
    traces: Annotated[
        str | None,
        Option("Send OpenTelemetry spans there, by OTLP over HTTP; nothing of what is said.", metavar="URL"),
    ] = None
    log: Annotated[str, Option("text, or json: one object a line.", metavar="FORM")] = "text"
    log_level: Annotated[str, Option("debug, info, warning or error; none tells what is said.", metavar="LEVEL")] = (
        "warning"
    )

    def folder(self) -> Path | None:
        """Make the folder for recordings, so that a wrong path is told before anybody calls."""
        if self.record is None:
            return None
        try:
            made = not self.record.exists()
            self.record.mkdir(parents=True, exist_ok=True)
            if made:
                self.record.chmod(0o700)  # whatever the umask is; a folder that was there is its owner's affair
        except OSError as error:
            raise BadConfig(f"--record {self.record} can't be made: {error.strerror}") from error
        if not made and os.name == "posix" and self.record.stat().st_mode & 0o077:
            told = f"others may look into {self.record}, which will hold what people say: chmod 700"
            typer.echo(f"warning: {told}", err=True)
        return self.record


def _fill_in(context: typer.Context, given: SettingsFile | None) -> SettingsFile | None:
    if given is not None:
        given.fill_in(context, get_type_hints(expanded(serve)))
    return given


def serve(
    *,
    config: Annotated[
        SettingsFile | None,
        typer.Option(
            parser=SettingsFile,
            callback=_fill_in,
            is_eager=True,
            metavar="FILE",
            help="Settings in TOML: these options, with _ for -, and fields of ServerConfig. What is said here wins.",
            show_default=False,
        ),
    ] = None,
    listening: Listening,
    where: Where,
    telling: Telling,
    captions: Annotated[CaptionChoice, Group(heading="Captions of calls that don't say")] = LIVE,
    choice: Model,
) -> None:
    """Serve live translation over gRPC until Ctrl-C, which lets streams end in grace; a second one ends it at once.

    On this machine, with the embedded model:

        streamtrans serve

    With the page for live captions, in the browser:

        streamtrans serve --page

    For the network, encrypted, on a GPU:

        streamtrans serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --device cuda

    Then speak from another terminal: streamtrans-mic --to de,fr
    """
    from streamtrans.server.logs import write_logs

    write_logs(telling.log, telling.log_level)
    settings = _settings(listening, telling, captions, config)
    typer.echo(f"loading {choice.model or 'the embedded model'} …", err=True)
    served: list[Served] = []

    def make() -> Served:
        served.append(where.served(choice, listening.slots, recorded=telling.record is not None))
        return served[0]

    def announce(server: TranslationServer) -> None:
        _announce(server, served[0])
        if listening.page:
            _show(server)

    _run(settings, make, announce)
    typer.echo("stopped", err=True)


def _run(settings: ServerConfig, make: Callable[[], Served], announce: Callable[[TranslationServer], None]) -> None:
    import asyncio

    from streamtrans.server import serve as run

    try:
        asyncio.run(run(settings, make, on_ready=announce, on_stopping=_say_what_is_waited_for))
    except EngineClosed as error:  # no mistake of the user's: a supervisor should try again
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _settings(
    listening: Listening, telling: Telling, captions: CaptionChoice, file: SettingsFile | None
) -> ServerConfig:
    """Return what was said about the server, on the command line and in the file."""
    from streamtrans.server import ServerConfig

    return ServerConfig(
        host=listening.host,
        port=listening.port,
        tls=listening.tls(),
        max_sessions=listening.max_sessions,
        captions=captions,
        record=telling.folder(),
        record_quota_mb=telling.record_quota,
        keys=listening.keys,
        signers=listening.signers,
        store=listening.store,
        http_port=listening.web_port,
        http_host=listening.http_host,
        allow_origin=listening.allow_origin,
        metrics_port=telling.metrics_port,
        traces=telling.traces,
        metrics_host=telling.metrics_host,
        **(file.server if file is not None else {}),
    )


def _announce(server: TranslationServer, served: Served) -> None:
    from streamtrans.server import address

    config = server.config
    secure = " with TLS" if config.tls is not None else ""
    metrics = ""
    if server.metrics_port is not None:
        metrics = f", metrics on {address(config.metrics_host, server.metrics_port)}"
    if server.http_port is not None:
        scheme = "https" if config.tls is not None else "http"
        metrics = f", {scheme}://{address(config.http_host, server.http_port)}/{metrics}"
    captions = "" if config.captions == LIVE else f", captions by default {config.captions}"
    recording = f", recording every session to {config.record}" if config.record is not None else ""
    typer.echo(
        f"ready: {address(config.host, server.port)}{secure}, model {served.model_name}, "
        f"languages {' '.join(served.languages)}, up to {config.max_sessions} streams{captions}{recording}{metrics}; "
        "Ctrl-C stops"
    )


def _show(server: TranslationServer) -> None:
    """Say where the page is, and open it where there is a screen."""
    import webbrowser

    from streamtrans.server import address
    from streamtrans.server.listening import found_at
    from streamtrans.server.tls import is_loopback

    config, port = server.config, server.http_port
    assert port is not None
    scheme = "https" if config.tls is not None else "http"
    everywhere = found_at(config.http_host)
    own = config.http_host if is_loopback(config.http_host) or everywhere == config.http_host else "localhost"
    page = f"{scheme}://{address(own, port)}/"
    typer.echo(f"live captions: {page}")
    if everywhere is not None and everywhere != own:
        typer.echo(f"from the network: {scheme}://{address(everywhere, port)}/")
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page)


def _say_what_is_waited_for(server: TranslationServer) -> None:
    count = server.active_sessions
    streams = "1 stream" if count == 1 else f"{count} streams"
    if count:
        waits = f"{streams} may go on for up to {server.config.grace_ms / 1000:g} s, and will get their last captions"
    else:
        waits = "no stream is open, the model is let go"
    typer.echo(f"stopping: {waits}; Ctrl-C again ends at once", err=True)
