"""What a caller asks of a stream, and its form on the wire.

A message that breaks a rule is refused whole, with one entry per wrong field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from types import MappingProxyType

from streamtrans.core import SAMPLE_RATE, BadConfig, CaptionChoice, Mode
from streamtrans.v1 import streamtrans_pb2 as pb

ENCODINGS = MappingProxyType(
    {
        "pcm_s16le": pb.AUDIO_ENCODING_PCM_S16LE,
        "pcm_f32le": pb.AUDIO_ENCODING_PCM_F32LE,
        "mulaw": pb.AUDIO_ENCODING_MULAW,
        "alaw": pb.AUDIO_ENCODING_ALAW,
        "opus": pb.AUDIO_ENCODING_OPUS,
        "ogg_opus": pb.AUDIO_ENCODING_OGG_OPUS,
        "flac": pb.AUDIO_ENCODING_FLAC,
    }
)
"""Name of an encoding → its number on the wire."""

BYTES_PER_SAMPLE = MappingProxyType({"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1})
"""Encoding → size of one sample of one channel, for the encodings where it is fixed."""

_ENCODING_NAMES: dict[int, str] = {number: name for name, number in ENCODINGS.items()}
_MODE_NAMES: dict[int, Mode | None] = {
    pb.CAPTION_MODE_UNSPECIFIED: None,
    pb.CAPTION_MODE_LIVE: "live",
    pb.CAPTION_MODE_STABLE: "stable",
    pb.CAPTION_MODE_FINAL: "final",
}

MODES: MappingProxyType[str, pb.CaptionMode] = MappingProxyType(
    {"live": pb.CAPTION_MODE_LIVE, "stable": pb.CAPTION_MODE_STABLE, "final": pb.CAPTION_MODE_FINAL}
)
"""Name of a caption mode → its number on the wire."""


_MOST_SOURCES = 128
"""Languages that may be spoken; no model knows more."""

_LONGEST_TAG = 35
"""Characters of a language tag; enough for every registered one (RFC 5646, 4.4.1)."""

_LONGEST_NAME = 64
"""Characters of a detector's name."""

_TOLD = 3
"""Wrong fields that an error spells out."""


class BadFields(BadConfig):
    """A message has wrong fields; ``fields`` lists ``(path, what is wrong and what would be right)``."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        told = "; ".join(f"{path}: {problem}" for path, problem in fields[:_TOLD])
        super().__init__(told if len(fields) <= _TOLD else f"{told}; and {len(fields) - _TOLD} more")
        self.fields = tuple(fields)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to do with one stream of audio. ``None`` leaves a choice to the server."""

    targets: tuple[str, ...]
    """Languages to write (BCP-47); the spoken one asks for a transcript."""
    encoding: str = "pcm_s16le"
    """A key of :data:`ENCODINGS`."""
    sample_rate_hertz: int = SAMPLE_RATE
    channels: int = 1
    """Interleaved; mixed to mono."""
    source_languages: tuple[str, ...] = ()
    """Languages that may be spoken; empty means any."""
    mode: Mode | None = None
    """``live``: committed and tentative text; ``stable``: committed only; ``final``: closed captions only."""
    min_interval_ms: int | None = None
    """Audio time between two readings: smaller is livelier and costs more."""
    vad: str | None = None
    """Name of the speech detector."""
    min_silence_ms: int | None = None
    """Silence that ends a segment: larger waits longer, and joins sentences."""
    max_segment_ms: int | None = None
    """A longer segment is cut at its quietest place."""
    erasure_budget: float | None = None
    """Words withdrawn per word of final text, on average, that a viewer can bear: smaller is calmer and later."""
    latency_budget_ms: int | None = None
    """How late words may have settled, on average (StreamLAAL): smaller is sooner and less calm."""

    def __post_init__(self) -> None:
        """Refuse a string where languages go, for each of its letters would be taken for one.

        Raises:
            BadFields: languages are no tuple or list of strings.
        """
        for name in ("targets", "source_languages"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise BadFields([(name, f"{given!r} is a string; give a tuple of languages, such as ({given!r},)")])
            wrong = [each for each in given if not isinstance(each, str)]
            if wrong:
                raise BadFields([(name, f"{wrong[0]!r} is no language; give strings such as 'de'")])
            object.__setattr__(self, name, tuple(given))

    word_times: bool = False
    """Whether final captions tell when each word was said."""
    resumable: bool = False
    """Whether the stream outlives its call for a while, so that another one can go on with it."""

    @property
    def captions(self) -> CaptionChoice:
        """What is said about captions."""
        return CaptionChoice(
            self.mode, self.erasure_budget, self.latency_budget_ms, self.min_silence_ms, self.max_segment_ms
        )


def options_to_proto(options: StreamOptions) -> pb.SessionConfig:
    """Return the message for ``options``.

    Raises:
        BadFields: an encoding or a mode has no name on the wire, or a number is no whole one, negative or too large.
    """
    errors = []
    if options.encoding not in ENCODINGS:
        errors.append(("encoding", f"unknown encoding {options.encoding!r}; use one of {', '.join(ENCODINGS)}"))
    if options.mode is not None and options.mode not in MODES:
        errors.append(("mode", f"unknown mode {options.mode!r}; use one of {', '.join(MODES)}"))
    for name, value in _numbers(options):
        if value is not None and not isinstance(value, Integral):
            errors.append((name, f"{value!r} is no whole number; give one, such as int(...)"))
        elif value is not None and not 0 < value < 2**31:
            errors.append((name, f"{value} is out of range; use a positive number"))
    if options.erasure_budget is not None and not 0 <= options.erasure_budget < math.inf:
        errors.append(("erasure_budget", f"{options.erasure_budget} is out of range; use 0 or more"))
    if errors:
        raise BadFields(errors)
    made = captions_to_proto(options.captions)
    made.endpointing.vad = options.vad or ""
    made.MergeFrom(
        pb.SessionConfig(
            audio_format=pb.AudioFormat(
                encoding=ENCODINGS[options.encoding],
                sample_rate_hertz=options.sample_rate_hertz,
                channels=options.channels,
            ),
            source_languages=options.source_languages,
            targets=[pb.TargetConfig(language=language) for language in options.targets],
            partials=pb.Partials(min_interval_ms=options.min_interval_ms or 0),
            word_times=options.word_times,
            resumable=options.resumable,
        )
    )
    return made


def mode_from_proto(number: int) -> Mode:
    """Return the mode of captions; one of a newer version is the default.

    What is sent is what the client gets told, so it can see that.
    """
    return _MODE_NAMES.get(number) or "live"


def options_from_proto(config: pb.SessionConfig, max_targets: int | None = None) -> StreamOptions:
    """Return what ``config`` asks for; languages are taken as they are written.

    Raises:
        BadFields: one entry per wrong field; of a list that is too long, only that it is.
    """
    errors = _format_errors(config.audio_format) + _target_errors(config, max_targets) + _source_errors(config)
    if len(config.endpointing.vad) > _LONGEST_NAME:
        errors.append(("endpointing.vad", f"is longer than the {_LONGEST_NAME} characters that a name may have"))
    if config.mode not in _MODE_NAMES:
        errors.append(("mode", f"unknown mode {config.mode}; use STABLE, LIVE or FINAL"))
    endpointing, partials = config.endpointing, config.partials
    for path, value in (
        ("partials.min_interval_ms", partials.min_interval_ms),
        ("endpointing.min_silence_ms", endpointing.min_silence_ms),
        ("endpointing.max_segment_ms", endpointing.max_segment_ms),
        ("latency_budget_ms", config.latency_budget_ms),
    ):
        if value < 0:
            errors.append((path, f"{value} is negative; use 0 for the default"))
    erasure = config.erasure_budget if config.HasField("erasure_budget") else None
    if erasure is not None and not 0 <= erasure < math.inf:
        errors.append(("erasure_budget", f"{erasure} is out of range; use 0 or more, or leave it out"))
    if errors:
        raise BadFields(errors)
    return StreamOptions(
        targets=tuple(target.language for target in config.targets),
        encoding=_ENCODING_NAMES[config.audio_format.encoding],
        sample_rate_hertz=config.audio_format.sample_rate_hertz,
        channels=config.audio_format.channels or 1,
        source_languages=tuple(config.source_languages),
        mode=_MODE_NAMES[config.mode],
        min_interval_ms=partials.min_interval_ms or None,
        vad=endpointing.vad or None,
        min_silence_ms=endpointing.min_silence_ms or None,
        max_segment_ms=endpointing.max_segment_ms or None,
        erasure_budget=erasure,
        latency_budget_ms=config.latency_budget_ms or None,
        word_times=config.word_times,
        resumable=config.resumable,
    )


def captions_to_proto(captions: CaptionChoice) -> pb.SessionConfig:
    """Return the part of a configuration that says how captions are made."""
    return pb.SessionConfig(
        mode=pb.CAPTION_MODE_UNSPECIFIED if captions.mode is None else MODES[captions.mode],
        erasure_budget=captions.erasure_budget,
        latency_budget_ms=captions.latency_budget_ms or 0,
        endpointing=pb.Endpointing(
            min_silence_ms=captions.min_silence_ms or 0, max_segment_ms=captions.max_segment_ms or 0
        ),
    )


def captions_from_proto(config: pb.SessionConfig) -> CaptionChoice:
    """Return what ``config`` says of captions; a mode that this version doesn't know is none."""
    return CaptionChoice(
        _MODE_NAMES.get(config.mode),
        config.erasure_budget if config.HasField("erasure_budget") else None,
        config.latency_budget_ms or None,
        config.endpointing.min_silence_ms or None,
        config.endpointing.max_segment_ms or None,
    )


def encoding_names(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the encodings in ``numbers`` that this version knows."""
    return tuple(_ENCODING_NAMES[number] for number in numbers if number in _ENCODING_NAMES)


def mode_names(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the caption modes in ``numbers`` that this version knows."""
    return tuple(name for number in numbers if (name := _MODE_NAMES.get(number)) is not None)


def _numbers(options: StreamOptions) -> list[tuple[str, int | None]]:
    return [
        ("sample_rate_hertz", options.sample_rate_hertz),
        ("channels", options.channels),
        ("min_interval_ms", options.min_interval_ms),
        ("min_silence_ms", options.min_silence_ms),
        ("max_segment_ms", options.max_segment_ms),
        ("latency_budget_ms", options.latency_budget_ms),
    ]


def _format_errors(audio: pb.AudioFormat) -> list[tuple[str, str]]:
    errors = []
    if audio.encoding == pb.AUDIO_ENCODING_UNSPECIFIED:
        errors.append(("audio_format.encoding", "is missing; say how the audio is encoded"))
    elif audio.encoding not in _ENCODING_NAMES:
        errors.append(("audio_format.encoding", f"unknown encoding {audio.encoding}"))
    if audio.sample_rate_hertz <= 0:
        errors.append(("audio_format.sample_rate_hertz", f"{audio.sample_rate_hertz} is not a rate; use 16000"))
    if audio.channels < 0:
        errors.append(("audio_format.channels", f"{audio.channels} is negative; use 1 for mono"))
    return errors


def _target_errors(config: pb.SessionConfig, max_targets: int | None) -> list[tuple[str, str]]:
    count = len(config.targets)
    if not count:
        return [("targets", "is empty; name at least one language to translate into")]
    if max_targets is not None and count > max_targets:
        return [("targets", f"has {count} languages; at most {max_targets} are allowed")]
    return [
        (f"targets[{index}].language", problem)
        for index, target in enumerate(config.targets)
        if (problem := _tag_problem(target.language, "name a language such as 'de'")) is not None
    ]


def _source_errors(config: pb.SessionConfig) -> list[tuple[str, str]]:
    count = len(config.source_languages)
    if count > _MOST_SOURCES:
        return [("source_languages", f"has {count} languages; at most {_MOST_SOURCES} are allowed")]
    return [
        (f"source_languages[{index}]", problem)
        for index, language in enumerate(config.source_languages)
        if (problem := _tag_problem(language, "name a language, or leave the list empty for any")) is not None
    ]


def _tag_problem(tag: str, wanted: str) -> str | None:
    """Say what is wrong with a language tag, without regard to whether there is such a language."""
    if len(tag) > _LONGEST_TAG:
        return f"is longer than the {_LONGEST_TAG} characters that a tag may have; {wanted}"
    return None if tag.strip() else f"is empty; {wanted}"
