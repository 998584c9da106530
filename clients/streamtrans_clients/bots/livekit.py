"""Live translation for LiveKit Agents: a speech-to-text whose text is the translation, with what was said beside it.

    session = AgentSession(stt=STT(StreamOptions(targets=("de",), source_languages=("en",)), address="localhost:50051"))

Law: a stream of LiveKit's is one of ours; where ours can go on after a break, LiveKit notices nothing, and where it
can't, an error of LiveKit's own kinds says why and whether trying again may help.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np
from livekit import rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    LanguageCode,
    NotGivenOr,
    stt,
    utils,
)
from livekit.agents.types import TimedString

from streamtrans.client import (
    Caption,
    ClientError,
    DataLost,
    Denied,
    Overloaded,
    ServerFault,
    SpeechStarted,
    Started,
    StreamEvent,
    StreamOptions,
    Summary,
    TimedOut,
    Tls,
    TranslationClient,
    Unavailable,
    UtteranceEnd,
    Word,
    both_ways,
)
from streamtrans_clients.bots.utterances import Utterance, Utterances
from streamtrans_clients.options import ADDRESS, explained

RATE = 16_000
"""Samples per second that LiveKit resamples to, and that times of captions count."""

FINAL = stt.SpeechEventType.FINAL_TRANSCRIPT

_PIECES_PER_S = 20
"""Messages of audio: more is livelier and costs more."""


class STT(stt.STT[str]):
    """Speech to text in other languages; use it wherever LiveKit Agents take an ``stt.STT``.

    ``text`` is the translation into the first target; all targets are in ``target_texts``. What was said is in
    ``source_texts`` where one source language is named: a server writes it beside the translations. Where that is the
    only target, ``text`` is the transcript.

    Args:
        options: what is wanted of a stream; the form of the sound is LiveKit's.
        address: ``host:port`` of a server.
        tls: encrypts the connection.
        key: shows servers that ask for one who calls.
    """

    def __init__(
        self, options: StreamOptions, *, address: str = ADDRESS, tls: Tls | None = None, key: str | None = None
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True,
                interim_results=options.mode != "final",
                aligned_transcript="word" if options.word_times else False,
                offline_recognize=True,
                manual_flush=True,
            )
        )
        self.address = address
        self._options = options
        self._tls = tls
        self._key = key
        self._model = "unknown"

    @property
    def model(self) -> str:
        """What the server calls its model, once a stream has begun."""
        return self._model

    @property
    def provider(self) -> str:
        """Who answers."""
        return "streamtrans"

    def client(self) -> TranslationClient:
        """Return a way to the server, to be entered."""
        return TranslationClient(self.address, tls=self._tls, key=self._key)

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> RecognizeStream:
        """Begin a stream; ``language`` is what is spoken, where it isn't what the options say."""
        return RecognizeStream(self, self.wishes(language), conn_options)

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        frame = rtc.combine_audio_frames(buffer)
        options = replace(self.wishes(language), sample_rate_hertz=frame.sample_rate, channels=frame.num_channels)
        said = Said(options, 0.0)
        finals: list[stt.SpeechData] = []
        async with self.client() as client:
            try:
                sound = frame.data.tobytes()
                async with aclosing(client.translate(options, sound, timeout_s=conn_options.timeout)) as events:
                    async for event in events:
                        self.note(event)
                        finals += [each.alternatives[0] for each in said.take(event) if each.type == FINAL]
            except ClientError as error:
                raise api_error(error, self.address) from error
        return stt.SpeechEvent(FINAL, said.session, [joined(finals, said)])

    def wishes(self, language: NotGivenOr[str]) -> StreamOptions:
        """Return what is asked of a stream in which ``language`` is spoken: of one language, what is said too."""
        options = self._options
        spoken = (str(language),) if utils.is_given(language) else options.source_languages
        written = (*options.targets, *spoken) if len(spoken) == 1 else options.targets
        return replace(
            options,
            targets=tuple(dict.fromkeys(written)),
            source_languages=spoken,
            encoding="pcm_s16le",
            sample_rate_hertz=RATE,
            channels=1,
            resumable=True,
        )

    def note(self, event: StreamEvent) -> None:
        """Learn what the server's model is called."""
        if isinstance(event, Started):
            self._model = event.model


class RecognizeStream(stt.RecognizeStream):
    """One stream: frames in, events out, as LiveKit has it."""

    def __init__(self, owner: STT, options: StreamOptions, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=owner, conn_options=conn_options, sample_rate=RATE)
        self._owner = owner
        self._options = options

    async def _run(self) -> None:
        said = Said(self._options, self.start_time_offset)
        async with self._owner.client() as client:
            stream = client.stream(self._options, timeout_s=self._conn_options.timeout)
            try:
                async with stream, aclosing(both_ways(stream, self._sound())) as events:
                    async for event in events:
                        self._owner.note(event)
                        for each in said.take(event):
                            self._event_ch.send_nowait(each)
            except ClientError as error:
                raise api_error(error, self._owner.address) from error

    async def _sound(self) -> AsyncIterator[bytes | UtteranceEnd]:
        pieces = utils.audio.AudioByteStream(RATE, 1, RATE // _PIECES_PER_S)
        async for item in self._input_ch:
            frames = pieces.push(mono(item)) if isinstance(item, rtc.AudioFrame) else pieces.flush()
            for frame in frames:
                yield frame.data.tobytes()
            if not isinstance(item, rtc.AudioFrame):
                yield UtteranceEnd()


class Said:
    """Events of ours become events of LiveKit's.

    Law: an utterance has one final text at most, after which no other comes; speech begins where nobody has spoken, and
    ends once all that was said is final.
    """

    def __init__(self, options: StreamOptions, offset_s: float) -> None:
        self.session = ""
        self.unspaced: frozenset[str] = frozenset()
        self.spoken = only(options.source_languages)
        self._utterances = Utterances(options.targets)
        self._offset_s = offset_s
        self._open: set[int] = set()
        self._billed = 0
        """Samples whose use was told."""

    def take(self, event: StreamEvent) -> Iterator[stt.SpeechEvent]:
        """Yield what LiveKit is to be told of ``event``."""
        match event:
            case Started():
                self.session = event.session_id
                self.unspaced = frozenset(event.unspaced_languages)
                self.spoken = only(event.options.source_languages)
                self._utterances = Utterances(event.options.targets)
            case SpeechStarted():
                if not self._open:
                    yield stt.SpeechEvent(stt.SpeechEventType.START_OF_SPEECH, self.session)
                self._open.add(event.segment)
            case Caption():
                yield from self._read(self._utterances.take(event))
            case Summary():
                yield from self._used(event.audio_ms * RATE // 1000)
            case _:
                pass

    def _read(self, utterance: Utterance) -> Iterator[stt.SpeechEvent]:
        data = speech_data(utterance, self.spoken, self._offset_s)
        if data is not None and data.text:
            kind = FINAL if utterance.final else stt.SpeechEventType.INTERIM_TRANSCRIPT
            yield stt.SpeechEvent(kind, self.session, [data])
        if utterance.final:
            self._open.discard(utterance.segment)
            if not self._open:
                yield stt.SpeechEvent(stt.SpeechEventType.END_OF_SPEECH, self.session)
            yield from self._used(utterance.end)

    def _used(self, heard: int) -> Iterator[stt.SpeechEvent]:
        if heard > self._billed:
            usage = stt.RecognitionUsage(audio_duration=(heard - self._billed) / RATE)
            self._billed = heard
            yield stt.SpeechEvent(stt.SpeechEventType.RECOGNITION_USAGE, self.session, recognition_usage=usage)


def speech_data(utterance: Utterance, spoken: str | None, offset_s: float = 0.0) -> stt.SpeechData | None:
    """Return an utterance as LiveKit has it, ``None`` where nothing is read in its language yet.

    ``spoken`` is the language that was said, where it is known. ``metadata`` holds what LiveKit has no field for: the
    number of the segment, and by language what is promised.
    """
    heard = utterance.caption(spoken) if spoken is not None else None
    written = [each for each in utterance.captions if each.language != spoken]
    shown = utterance.caption(next((each for each in utterance.languages if each != spoken), utterance.languages[0]))
    if shown is None:
        return None
    return stt.SpeechData(
        language=LanguageCode(shown.language),
        text=shown.text.strip(),
        start_time=offset_s + utterance.start / RATE,
        end_time=offset_s + utterance.end / RATE,
        confidence=shown.stability,
        words=[_timed(word, offset_s) for word in shown.words] or None,
        source_languages=[LanguageCode(heard.language)] if written and heard is not None else None,
        source_texts=[heard.text.strip()] if written and heard is not None else None,
        target_languages=[LanguageCode(each.language) for each in written] or None,
        target_texts=[each.text.strip() for each in written] or None,
        metadata={
            "segment": utterance.segment,
            "committed": {each.language: each.committed.strip() for each in utterance.captions},
        },
    )


def _timed(word: Word, offset_s: float) -> TimedString:
    start, end = (NOT_GIVEN if at is None else offset_s + at / RATE for at in (word.start, word.end))
    return TimedString(word.text, start, end, word.confidence, offset_s)


def joined(parts: Sequence[stt.SpeechData], said: Said) -> stt.SpeechData:
    """Return all that was said as one; nothing at all is an empty text."""
    if not parts:
        return stt.SpeechData(language=LanguageCode(said.spoken or ""), text="")

    def together(runs: Iterable[Sequence[str]], languages: Sequence[str]) -> list[str] | None:
        texts = zip(*runs, strict=True)
        return [_spaced(each, language, said) for each, language in zip(texts, languages, strict=False)] or None

    first, last = parts[0], parts[-1]
    return replace(
        first,
        text=_spaced((each.text for each in parts), first.language, said),
        end_time=last.end_time,
        confidence=min(each.confidence for each in parts),
        words=[word for each in parts for word in each.words or ()] or None,
        source_texts=together((each.source_texts or () for each in parts), first.source_languages or ()),
        target_texts=together((each.target_texts or () for each in parts), first.target_languages or ()),
        metadata=None,
    )


def _spaced(texts: Iterable[str], language: str, said: Said) -> str:
    return ("" if language in said.unspaced else " ").join(filter(None, texts))


def only(languages: Sequence[str]) -> str | None:
    """Return the language that is spoken, where it is certain."""
    return languages[0] if len(languages) == 1 else None


def mono(frame: rtc.AudioFrame) -> bytes:
    """Return the samples of a frame, its channels mixed."""
    if frame.num_channels == 1:
        return frame.data.tobytes()
    samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    return bytes(samples.mean(axis=1).round().astype("<i2").tobytes())


def api_error(error: ClientError, address: str) -> APIError:
    """Return LiveKit's name for a failed call, with a sentence that says what to do; it tries again what may pass."""
    what = explained(error, address)
    match error:
        case TimedOut():
            return APITimeoutError(what)
        case Unavailable() | DataLost():
            return APIConnectionError(what)
        case Overloaded():
            return APIStatusError(what, status_code=429)
        case Denied():
            return APIStatusError(what, status_code=401)
        case ServerFault():
            return APIStatusError(what, status_code=500)
        case _:
            return APIStatusError(what, status_code=400)
