"""A caller's wishes become the settings of a session, or a refusal that says which wish and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from streamtrans.core import BadConfig, CaptionChoice, UnsupportedLanguage
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.refusal import Refusal, invalid, out_of_order, unsupported
from streamtrans.server.tape import Tape
from streamtrans.stream import Memory, Origin, Recorder, Session, SessionConfig, Setting, Unmet, arrange
from streamtrans.text import canonical, written
from streamtrans.vad import vad_window
from streamtrans.wire import (
    BadFields,
    ClientMessage,
    StreamOptions,
    Update,
    options_from_proto,
    payload_of,
)

_ON_THE_WIRE = {"max_segment_ms": "endpointing.max_segment_ms"}
"""Field of ``CaptionChoice`` → its path in a message, where it is another one."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What is in effect for one stream: for the client, and for the session."""

    options: StreamOptions
    session: SessionConfig
    setting: Setting | None = None


def open_stream(message: ClientMessage | None, served: Served, config: ServerConfig) -> Opening:
    """Return what the first message asks for, with defaults filled in.

    Raises:
        Refusal: it is no configuration, a wrong one, or one for what this server doesn't offer.
    """
    if message is None:
        raise _first("the stream ended before it began")
    kind = payload_of(message)
    if kind is None:
        raise nothing_in_it()
    if kind != "config":
        raise _first(f"the first message is `{kind}`")
    try:
        wishes = options_from_proto(message.config, served.bounded(config.limits).max_targets)
    except BadFields as error:
        raise invalid(error.fields) from error
    vad = _detector(wishes, served)
    targets = [
        _language(tag, f"targets[{index}].language", served, written) for index, tag in enumerate(wishes.targets)
    ]
    if len(set(targets)) < len(targets):
        raise invalid([("targets", f"name one language twice: {', '.join(wishes.targets)}")])
    sources = [
        _language(tag, f"source_languages[{index}]", served, canonical)
        for index, tag in enumerate(wishes.source_languages)
    ]
    source = sources[0] if len(sources) == 1 else None
    template = replace(config.session, targets=tuple(targets), source=source, vad=vad, words=wishes.word_times)
    captions = wishes.captions.over(config.captions)
    session, setting = _arranged(template, captions, wishes.min_interval_ms, served)
    _check_pairs(session, served)
    effective = replace(
        wishes,
        targets=session.targets,
        source_languages=tuple(sources),
        mode=session.mode,
        erasure_budget=captions.erasure_budget,
        latency_budget_ms=captions.latency_budget_ms,
        min_interval_ms=session.reading_interval_ms,
        vad=vad,
        resumable=wishes.resumable and config.limits.resume_ms > 0,
        min_silence_ms=round(session.endpoints.min_silence_ms),
        max_segment_ms=round(session.endpoints.max_segment_ms),
    )
    return Opening(effective, session, setting)


def check_defaults(config: ServerConfig, served: Served) -> None:
    """Refuse defaults that no stream could have.

    Raises:
        BadConfig: a budget can't be kept with this model, or the endpoints leave no room.
    """
    try:
        arrange(config.session, config.captions, served.settings, served.max_segment_ms)
    except Unmet as error:
        raise error.by_option() from error


def retargeted(opening: Opening, update: Update, served: Served, config: ServerConfig) -> Opening:
    """Return ``opening`` with the targets that ``update`` asks for: those that stay first, in their order.

    Raises:
        Refusal: there would be too many or none, or one that this server doesn't offer.
    """
    most = served.bounded(config.limits).max_targets
    for name, tags in (("add_targets", update.add_targets), ("remove_targets", update.remove_targets)):
        if len(tags) > most:
            raise invalid([(name, f"has {len(tags)} languages; at most {most} are allowed")])
    added = [
        _language(tag, f"add_targets[{index}].language", served, written)
        for index, tag in enumerate(update.add_targets)
    ]
    removed = [
        _language(tag, f"remove_targets[{index}]", served, written) for index, tag in enumerate(update.remove_targets)
    ]
    stay = [target for target in opening.session.targets if target not in removed]
    targets = tuple(dict.fromkeys((*stay, *added)))
    if not targets:
        raise invalid([("remove_targets", "would leave no language; add one with the same update, or end the stream")])
    if len(targets) > most:
        raise invalid([("add_targets", f"would make {len(targets)} languages; at most {most} are allowed")])
    session = replace(opening.session, targets=targets)
    _check_pairs(session, served)
    return replace(opening, options=replace(opening.options, targets=targets), session=session)


def new_session(opening: Opening, served: Served, memory: Memory | None = None) -> Session:
    """Return a session for ``opening``, which goes on with ``memory`` where there is some.

    Raises:
        Refusal: the endpoints leave no room for the windows of the detector.
    """
    try:
        return Session(opening.session, served.tokenizer, window=vad_window(opening.session.vad), memory=memory)
    except BadConfig as error:
        raise invalid([("endpointing", str(error))]) from error


def recorded(session: Session, served: Served, tape: Tape) -> Recorder:
    """Return ``session`` with every call of it kept on ``tape``, as far as that can be written."""
    origin = served.origin or Origin(served.model_name)
    return Recorder(session, tape, origin, window=vad_window(session.config.vad))


def nothing_in_it() -> Refusal:
    """Refuse a message that carries nothing known."""
    return invalid([("payload", "is empty or of a newer protocol; set one of config, audio, silence, ...")])


def _first(problem: str) -> Refusal:
    return out_of_order(f"{problem}; send `config` first")


def _detector(wishes: StreamOptions, served: Served) -> str:
    if wishes.vad is None:
        return served.vads[0]
    for name in served.vads:
        if name == wishes.vad:
            return name  # the server's own, which may be a Chosen one; the caller's never is
    known = ", ".join(served.vads)
    raise invalid([("endpointing.vad", f"unknown detector {wishes.vad!r}; use one of {known}")])


def watched_language(tag: str, live_targets: tuple[str, ...], served: Served, source: str | None) -> str:
    """Return the language that a viewer asks for.

    Raises:
        Refusal: this server doesn't write it, or not from what is spoken.
    """
    language = _language(tag, "language", served, written)
    if language not in live_targets and served.ask is not None:
        try:
            served.ask(language, source)
        except UnsupportedLanguage as error:
            raise unsupported(f"language: {error}") from error
    return language


def _language(tag: str, path: str, served: Served, read: Callable[[str], str]) -> str:
    known = ", ".join(served.languages)
    try:
        code = read(tag)
    except UnsupportedLanguage as error:
        raise unsupported(f"{path}: {error}; {served.model_name} knows {known}") from error
    if code not in served.languages:
        raise unsupported(f"{path}: {served.model_name} doesn't know {tag!r}; it knows {known}")
    return code


def _arranged(
    template: SessionConfig, captions: CaptionChoice, interval_ms: int | None, served: Served
) -> tuple[SessionConfig, Setting | None]:
    """Return the session with what is wanted of captions, and the measured setting that it follows."""
    try:
        session, setting = arrange(template, captions, served.settings, served.max_segment_ms)
        if interval_ms is not None:
            # with another interval other figures would be measured
            session, setting = replace(session, reading_interval_ms=interval_ms), None
    except Unmet as error:
        raise invalid([(_ON_THE_WIRE.get(field, field), str(error)) for field in error.fields]) from error
    except BadConfig as error:
        raise invalid([("config", str(error))]) from error
    return session, setting


def _check_pairs(session: SessionConfig, served: Served) -> None:
    """Refuse a pair that the model doesn't translate; admitted, each of its readings would fail."""
    if served.ask is None:
        return
    for index, target in enumerate(session.targets):
        try:
            served.ask(target, session.source)
        except UnsupportedLanguage as error:
            raise unsupported(f"targets[{index}].language: {error}") from error
