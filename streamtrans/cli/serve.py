"""``streamtrans serve``: a server for live streams."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.options import Device, Drafter, Dtype, Model, Threads, TopK, Vad
from streamtrans.cli.record import origin_of
from streamtrans.cli.settings import SettingsFile
from streamtrans.core import BadConfig, EngineClosed
from streamtrans.runtime import ModelChoice, load

if TYPE_CHECKING:
    from streamtrans.server import Served, Tls, TranslationServer


def _fill_in(context: typer.Context, given: SettingsFile | None) -> SettingsFile | None:
    if given is not None:
        given.fill_in(context, serve)
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
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 listens to the network (use TLS there).")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free port.")] = 50_051,
    max_sessions: Annotated[int, typer.Option(min=1, help="Streams at once; more are refused.")] = 64,
    slots: Annotated[
        int, typer.Option(min=1, help="Texts decoded at once: more serve more streams and take more memory.")
    ] = 16,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM); turns encryption on.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).", show_default=False)] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="Admit only clients whose certificate this one signs (PEM).", show_default=False),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep a recording of every session in this folder: all that is said, and its captions, for "
            "streamtrans replay. By default nothing is kept.",
            show_default=False,
        ),
    ] = None,
    record_quota: Annotated[
        int, typer.Option(min=1, metavar="MB", help="What that folder may hold; a recording beyond it ends there.")
    ] = 10_000,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Admit only who has a key of this file (streamtrans key), within its quotas.",
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Answer Prometheus there, over HTTP; nothing of what is said.", show_default=False
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address of that port.")] = "127.0.0.1",
    log: Annotated[str, typer.Option(metavar="FORM", help="text, or json: one object a line.")] = "text",
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error; none tells what is said.")
    ] = "warning",
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    vad: Vad = "silero",
    threads: Threads = None,
) -> None:
    """Serve live translation over gRPC until Ctrl-C, which lets streams end in grace; a second one ends it at once.

    On this machine, with the embedded model:

        streamtrans serve

    For the network, encrypted, on a GPU:

        streamtrans serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --device cuda

    Then speak from another terminal: streamtrans-mic --to de,fr
    """
    import asyncio

    from streamtrans.server.logs import write_logs

    write_logs(log, log_level)
    from streamtrans.server import ServerConfig
    from streamtrans.server import serve as run
    from streamtrans.server.offer import what_is_served

    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    tls = _tls(tls_cert, tls_key, tls_client_ca)
    settings = ServerConfig(
        host=host,
        port=port,
        tls=tls,
        max_sessions=max_sessions,
        record=_folder(record),
        record_quota_mb=record_quota,
        keys=keys,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        **(config.server if config is not None else {}),
    )
    typer.echo(f"loading {model or 'the embedded model'} …", err=True)
    served: list[Served] = []

    def make() -> Served:
        loaded = load(choice, slots=slots)
        served.append(what_is_served(loaded, vad, origin_of(choice, loaded) if record is not None else None))
        return served[0]

    try:
        asyncio.run(
            run(
                settings,
                make,
                on_ready=lambda server: _announce(server, served[0]),
                on_stopping=_say_what_is_waited_for,
            )
        )
    except EngineClosed as error:  # no mistake of the user's: a supervisor should try again
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo("stopped", err=True)


def _tls(certificate: Path | None, key: Path | None, client_roots: Path | None) -> Tls | None:
    from streamtrans.server import Tls

    if certificate is not None and key is not None:
        return Tls(certificate, key, client_roots)
    if certificate is not None or key is not None or client_roots is not None:
        why = "--tls-client-ca asks clients for certificates, which is part of encryption, and " if client_roots else ""
        raise BadConfig(f"{why}encryption needs both --tls-cert and --tls-key")
    return None


def _folder(record: Path | None) -> Path | None:
    """Make the folder for recordings, so that a wrong path is told before anybody calls."""
    if record is not None:
        try:
            made = not record.exists()
            record.mkdir(parents=True, exist_ok=True)
            if made:
                record.chmod(0o700)  # whatever the umask is; a folder that was there is its owner's affair
        except OSError as error:
            raise BadConfig(f"--record {record} can't be made: {error.strerror}") from error
        if not made and os.name == "posix" and record.stat().st_mode & 0o077:
            typer.echo(f"warning: others may look into {record}, which will hold what people say: chmod 700", err=True)
    return record


def _announce(server: TranslationServer, served: Served) -> None:
    from streamtrans.server import address

    config = server.config
    secure = " with TLS" if config.tls is not None else ""
    metrics = ""
    if server.metrics_port is not None:
        metrics = f", metrics on {address(config.metrics_host, server.metrics_port)}"
    recording = f", recording every session to {config.record}" if config.record is not None else ""
    typer.echo(
        f"ready: {address(config.host, server.port)}{secure}, model {served.model_name}, "
        f"languages {' '.join(served.languages)}, up to {config.max_sessions} streams{recording}{metrics}; Ctrl-C stops"
    )


def _say_what_is_waited_for(server: TranslationServer) -> None:
    count = server.active_sessions
    streams = "1 stream" if count == 1 else f"{count} streams"
    if count:
        waits = f"{streams} may go on for up to {server.config.grace_ms / 1000:g} s, and will get their last captions"
    else:
        waits = "no stream is open, the model is let go"
    typer.echo(f"stopping: {waits}; Ctrl-C again ends at once", err=True)
