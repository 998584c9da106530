"""Live translation for Pipecat: a speech-to-text service that pushes what is said and what it means elsewhere.

    stt = StreamtransSTTService(TranslationClient("localhost:50051"), Settings(targets=("de",), language="en"))
    Pipeline([transport.input(), stt, …])

Pushed are ``InterimTranscriptionFrame`` for every reading in every language, ``TranscriptionFrame`` for the final text
of what was said, and ``TranslationFrame``, one that also tells segment and speaker, for each final translation.
Readings that may still change are no translation frames: whatever speaks text would speak them.

Law: each user of a transport has a stream of their own; what is pushed for one is marked as theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    StartFrame,
    TranscriptionFrame,
    TranslationFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.time import time_now_iso8601
from pipecat.utils.types import NOT_GIVEN, NotGiven, assert_given

from streamtrans.client import (
    BadConfig,
    Caption,
    ConfigRejected,
    DataLost,
    Denied,
    InvalidRequest,
    Overloaded,
    SpeechEnded,
    StreamEvent,
    StreamOptions,
    TimedOut,
    TranslationClient,
    Unavailable,
    Unsupported,
)
from streamtrans_clients.bots.speaker import BehindError, SpeakerStream, Trouble
from streamtrans_clients.options import explained


@dataclass
class Settings(STTSettings):
    """What may be changed while a pipeline runs, by an ``STTUpdateSettingsFrame``.

    ``language`` is what is spoken, where one language is; then what is said is written too. ``None``: any.
    """

    targets: tuple[str, ...] | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    """Languages to write."""


@dataclass
class SpeakerTranslationFrame(TranslationFrame):
    """A final translation: of which segment, said by whom."""

    segment: int = 0
    speaker: str = ""
    """The name of the user, where names are known."""
    result: Caption | None = None


class StreamtransSTTService(STTService):
    """Speech to text in other languages, for any pipeline of Pipecat's.

    Args:
        client: the way to a server, entered and left with the pipeline.
        settings: what is spoken, and what is to be written.
        options: what else is wanted of captions; languages and the form of the sound are the settings' and Pipecat's.
        targets_of: languages to write for one user, by id; by default the settings' for all.
        name_of: the name of a user, by id.
        ttfs_p99_latency: in seconds, from the end of speech to its final text, as measured where this runs.
    """

    def __init__(
        self,
        client: TranslationClient,
        settings: Settings,
        *,
        options: StreamOptions | None = None,
        targets_of: Callable[[str], tuple[str, ...] | None] = lambda _user: None,
        name_of: Callable[[str], str] = str,
        ttfs_p99_latency: float | None = None,
    ) -> None:
        given = Settings(model=None, language=None, targets=())
        given.apply_update(settings)
        super().__init__(settings=given, ttfs_p99_latency=ttfs_p99_latency)
        self._settings: Settings
        self._client = client
        self._base = options or StreamOptions(())
        self._targets_of = targets_of
        self._name_of = name_of
        self._speakers: dict[str, SpeakerStream] = {}
        self._open = False

    def can_generate_metrics(self) -> bool:
        """Whether latency and usage are told."""
        return True

    def language_to_service_language(self, language: Language) -> str | None:
        """Return the code of a language: servers take BCP-47, as Pipecat has it."""
        return str(language)

    async def start(self, frame: StartFrame) -> None:
        """Begin; a server is called when somebody speaks."""
        await super().start(frame)
        await self._client.__aenter__()
        self._open = True

    async def stop(self, frame: EndFrame) -> None:
        """End well: the last captions are pushed before the end is."""
        await asyncio.gather(*(speaker.close() for speaker in self._speakers.values()))
        await super().stop(frame)

    async def cleanup(self) -> None:
        """End whatever is under way."""
        for speaker in self._speakers.values():
            await speaker.cancel()
        self._speakers.clear()
        if self._open:
            self._open = False
            await self._client.__aexit__(None, None, None)
        await super().cleanup()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        for speaker in self._speakers.values():
            await speaker.cancel()
        await super().cancel(frame)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Hear a piece of sound of the user whose frame it was in; frames are pushed when there are captions."""
        self._speaker(self._user_id).hear(audio)
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Where Pipecat's own detector says that the user has stopped, the segment is closed at once."""
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and self._user_id in self._speakers:
            self.request_finalize()
            self._speakers[self._user_id].pause()

    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:  # type: ignore[override]  # as Pipecat's own
        changed: dict[str, Any] = await super()._update_settings(delta)
        await asyncio.gather(*(speaker.retarget() for speaker in self._speakers.values()))
        return changed

    def _speaker(self, user: str) -> SpeakerStream:
        if user not in self._speakers:
            self._speakers[user] = SpeakerStream(self._client, lambda: self._wishes(user), *self._listeners(user))
        return self._speakers[user]

    def _wishes(self, user: str) -> StreamOptions:
        spoken = () if self._settings.language is None else (str(self._settings.language),)
        targets = self._targets_of(user) or assert_given(self._settings.targets)
        return replace(
            self._base,
            targets=tuple(dict.fromkeys((*targets, *spoken))),
            source_languages=spoken or self._base.source_languages,
            encoding="pcm_s16le",
            sample_rate_hertz=self.sample_rate,
            channels=1,
        )

    def _listeners(
        self, user: str
    ) -> tuple[Callable[[StreamEvent], Awaitable[None]], Callable[[Trouble], Awaitable[None]]]:
        async def show(event: StreamEvent) -> None:
            match event:
                case Caption():
                    await self._push_caption(user, event)
                case SpeechEnded():
                    await self.emit_stt_usage_metrics()
                case ConfigRejected():
                    await self.push_error(event.message, category=ErrorCategory.APPLICATION)
                case _:
                    pass

        async def fail(error: Trouble) -> None:
            what = explained(error, self._client.address)
            await self.push_error(what, exception=error, category=category(error))

        return show, fail

    async def _push_caption(self, user: str, caption: Caption) -> None:
        text = caption.text.strip()
        if not text:
            return
        about: dict[str, Any] = {
            "text": text,
            "user_id": user,
            "timestamp": time_now_iso8601(),
            "language": pipecat_language(caption.language),
            "result": caption,
        }
        if not caption.final:
            await self.push_frame(InterimTranscriptionFrame(**about))
        elif caption.language == self._settings.language:
            self.confirm_finalize()
            await self.push_frame(TranscriptionFrame(**about))
        else:
            speaker = self._name_of(user)
            await self.push_frame(SpeakerTranslationFrame(**about, segment=caption.segment, speaker=speaker))


def pipecat_language(code: str) -> Language | None:
    """Return Pipecat's name of a language; ``None`` where it has none."""
    try:
        return Language(code)
    except ValueError:
        return None


def category(error: Trouble) -> ErrorCategory:
    """Return Pipecat's kind of a failure: after a permanent one nothing is sent before settings change."""
    match error:
        case Denied():
            return ErrorCategory.AUTHENTICATION
        case InvalidRequest() | Unsupported() | BadConfig():
            return ErrorCategory.INVALID_REQUEST
        case Overloaded():
            return ErrorCategory.RATE_LIMIT
        case Unavailable() | TimedOut() | DataLost() | BehindError():
            return ErrorCategory.CONNECTIVITY
        case _:
            return ErrorCategory.SERVER
