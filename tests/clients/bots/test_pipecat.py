"""Pipecat's own pipeline runs our service: real frames in, real frames out."""

import asyncio
import time

import numpy as np
import pytest
import soundfile
from pipecat.frames.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    TranslationFrame,
    UserAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import STTUsageMetricsData
from pipecat.services.stt_service import STTService
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transcriptions.language import Language
from pipecat.utils.errors import ErrorCategory
from streamtrans_clients.bots import pipecat_captions, speaker
from streamtrans_clients.bots.pipecat import Settings, StreamtransSTTService

from streamtrans.client import StreamOptions, TranslationClient
from tests.clients.bots.conftest import TALK
from tests.server.conftest import speech

OTHER = (speech(0.2, 0.8, 0.5, seed=9) * 32_767).astype("<i2").tobytes()


def frames(sound=TALK, user=None, ms=20):
    size = 32 * ms
    for at in range(0, len(sound), size):
        piece = sound[at : at + size]
        yield (
            InputAudioRawFrame(piece, 16_000, 1) if user is None else UserAudioRawFrame(piece, 16_000, 1, user_id=user)
        )


async def ran(service, sent):
    async with asyncio.timeout(30):
        return await run_test(service, frames_to_send=list(sent))


def finals(down, kind, user=""):
    texts = {}
    for frame in down:
        if isinstance(frame, kind) and frame.user_id == user:
            texts.setdefault(str(frame.language), []).append(frame.text)
    return texts


async def test_every_field_of_every_frame(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("de", "fr", "en"), source_languages=("en",))
        service = StreamtransSTTService(TranslationClient(address), Settings(targets=("de", "fr"), language="en"))
        down, up = await ran(service, frames())
    assert isinstance(service, STTService)
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert finals(down, TranscriptionFrame) == {"en": expected["en"]}
    assert finals(down, TranslationFrame) == {"de": expected["de"], "fr": expected["fr"]}
    said = [
        frame for frame in down if isinstance(frame, InterimTranscriptionFrame | TranscriptionFrame | TranslationFrame)
    ]
    interims = [frame for frame in said if isinstance(frame, InterimTranscriptionFrame)]
    assert {frame.language for frame in interims} == {Language.DE, Language.FR, Language.EN}
    for frame in said:
        assert isinstance(frame.language, Language)
        assert frame.timestamp.endswith("+00:00")
        assert frame.text == frame.result.text.strip()
        assert frame.result.final is not isinstance(frame, InterimTranscriptionFrame)
    translations = [frame for frame in said if isinstance(frame, TranslationFrame)]
    assert sorted((frame.segment, str(frame.language)) for frame in translations) == [
        (segment, language) for segment in (0, 1) for language in ("de", "fr")
    ]


async def test_no_language_named_means_translations_alone(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("de",))
        down, _ = await ran(StreamtransSTTService(TranslationClient(address), Settings(targets=("de",))), frames())
    assert finals(down, TranslationFrame) == expected
    assert not finals(down, TranscriptionFrame)


async def test_every_user_has_a_stream_and_a_name_and_languages_of_their_own(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("fr",)), await over_grpc(address, OTHER, ("it", "de"))
        service = StreamtransSTTService(
            TranslationClient(address),
            Settings(targets=("fr",)),
            targets_of={"bo": ("it", "de")}.get,
            name_of={"ada": "Ada", "bo": "Bo"}.get,
        )
        both = [frame for pair in zip(frames(user="ada"), frames(OTHER, "bo"), strict=False) for frame in pair]
        rest = list(frames(user="ada"))[len(both) // 2 :]
        down, _ = await ran(service, both + rest)
    assert (finals(down, TranslationFrame, "ada"), finals(down, TranslationFrame, "bo")) == expected
    assert {(frame.user_id, frame.speaker) for frame in down if isinstance(frame, TranslationFrame)} == {
        ("ada", "Ada"),
        ("bo", "Bo"),
    }


async def test_pipecats_detector_closes_a_segment_which_is_then_finalized(house):
    loud = TALK[int(0.3 * 32_000) : int(1.3 * 32_000)]  # no silence at its end
    stopped = VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=time.time())
    async with house() as address:
        service = StreamtransSTTService(TranslationClient(address), Settings(targets=("de",), language="en"))
        down, _ = await ran(service, [*frames(loud), stopped, SleepFrame(0.4), *frames(loud)])
    ends = [(type(frame), frame.finalized) for frame in down if isinstance(frame, TranscriptionFrame)]
    assert ends == [(TranscriptionFrame, True), (TranscriptionFrame, False)]


async def test_targets_change_while_a_pipeline_runs(house, over_grpc):
    pause, change = SleepFrame(0.4), STTUpdateSettingsFrame(delta=Settings(targets=("it",)))
    async with house() as address:
        expected = await over_grpc(address, targets=("de", "it"))
        service = StreamtransSTTService(TranslationClient(address), Settings(targets=("de",)))
        down, _ = await ran(service, [*frames(), pause, change, pause, *frames()])
    texts = finals(down, TranslationFrame)
    # Languages change between two segments, sooner or later by how busy the machine is.
    assert texts["de"][0] == expected["de"][0]
    assert len(texts["de"]) < 4
    assert texts["it"][-1] == expected["it"][-1]


async def test_what_was_heard_is_billed(house):
    from pipecat.frames.frames import MetricsFrame
    from pipecat.pipeline.worker import PipelineParams

    async with house() as address, asyncio.timeout(20):
        service = StreamtransSTTService(TranslationClient(address), Settings(targets=("de",)))
        params = PipelineParams(enable_metrics=True, enable_usage_metrics=True)
        down, _ = await run_test(service, frames_to_send=list(frames()), pipeline_params=params)
    told = [data for frame in down if isinstance(frame, MetricsFrame) for data in frame.data]
    used = [data.value.audio_seconds for data in told if isinstance(data, STTUsageMetricsData)]
    assert sum(used) == pytest.approx(len(TALK) / 32_000)


async def test_no_server_is_a_sentence(nowhere):
    service = StreamtransSTTService(TranslationClient(nowhere), Settings(targets=("de",)))
    _, up = await ran(service, [*frames(), SleepFrame(0.5)])
    [error] = [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert f"{nowhere} isn't serving" in error.error
    assert "streamtrans serve" in error.error
    assert error.category is ErrorCategory.CONNECTIVITY


async def test_a_wrong_language_is_told_the_right_ones_and_tried_no_more_until_it_is_changed(house, monkeypatch):
    monkeypatch.setattr(speaker, "_AGAIN_S", 0.0)
    pause, change = SleepFrame(0.3), STTUpdateSettingsFrame(delta=Settings(targets=("it",)))
    async with house() as address:
        service = StreamtransSTTService(TranslationClient(address), Settings(targets=("ru",)))
        # Sound overtakes what changes settings.
        down, up = await ran(service, [*frames(), pause, *frames(), pause, change, pause, *frames()])
    [error] = [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert "it knows en, de, zh, fr, it, es" in error.error
    assert error.category is ErrorCategory.INVALID_REQUEST
    assert list(finals(down, TranslationFrame)) == ["it"]


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc):
    expected = await over_grpc(restarted.address)
    service = StreamtransSTTService(
        TranslationClient(restarted.address),
        Settings(targets=("de", "fr")),
        options=StreamOptions((), min_interval_ms=240),
    )
    sent = [each for frame in frames(ms=100) for each in (frame, SleepFrame(0.08))]

    async def restart():
        await asyncio.sleep(1.2)
        await restarted.again()

    (down, up), _ = await asyncio.gather(ran(service, sent), restart())
    assert finals(down, TranslationFrame) == expected
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]


def test_the_example_prints_what_was_said_and_what_it_means(address_of_a_house, tmp_path, capsys):
    address, expected = address_of_a_house
    soundfile.write(tmp_path / "talk.wav", np.frombuffer(TALK, "<i2"), 16_000)
    arguments = ["--server", address, "--from", "en", "--to", "de", "--file", str(tmp_path / "talk.wav")]
    pipecat_captions.main(arguments)
    told = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert {code: [text for language, text in told if language == code] for code in ("de", "en")} == expected


def test_the_example_says_where_no_server_is(nowhere, tmp_path, capsys):
    soundfile.write(tmp_path / "talk.wav", np.frombuffer(TALK, "<i2"), 16_000)
    with pytest.raises(SystemExit, match="2"):
        pipecat_captions.main(["--server", nowhere, "--to", "de", "--file", str(tmp_path / "talk.wav")])
    assert f"error: {nowhere} isn't serving" in capsys.readouterr().err
