"""A stream changes while it runs: targets come and go, and whoever has to leave is told in time."""

import asyncio

import pytest

from streamtrans.client import (
    Caption,
    ConfigApplied,
    ConfigRejected,
    GoAway,
    SpeechEnded,
    SpeechStarted,
    Started,
    StreamOptions,
    Summary,
    TimedOut,
    Unavailable,
)
from streamtrans.core import UnsupportedLanguage
from streamtrans.server import Limits
from streamtrans.stream import Recording, Session, rerun
from streamtrans.wire import ClientMessage, audio_message


async def until(stream, kind, seen):
    async for event in stream:
        seen.append(event)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} in {seen}")


def finals(events):
    return {(event.segment, event.language): event for event in events if isinstance(event, Caption) and event.final}


async def test_what_was_said_before_its_language_went_becomes_final_all_the_same(house):
    engine, seen = house.Held(house.instant(), 8_000), []
    async with (
        asyncio.timeout(10),
        house.running(house.served(engine)) as (_, client),
        client.stream(StreamOptions(("de", "fr"), mode="final")) as stream,
    ):
        await stream.send(house.speech(0.2, 1.5))
        await stream.end_utterance()
        await until(stream, SpeechEnded, seen)
        while not engine.waiting:
            await asyncio.sleep(0.01)
        await stream.update(remove=("de",))
        await until(stream, ConfigApplied, seen)
        engine.let_go()
        await stream.send(house.speech(0.4))
        await stream.end()
        seen += [event async for event in stream]
    assert finals(seen)[0, "de"].text
    assert finals(seen)[0, "fr"].text


async def test_targets_come_and_go_while_somebody_speaks(house, tmp_path):
    seen = []
    config = house.configured(record=tmp_path)
    async with house.running(config=config) as (_, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.send(house.speech(0.2, 1.5))
        await until(stream, Caption, seen)
        first = await stream.update(add=("fr",), remove=("de",))
        applied = await until(stream, ConfigApplied, seen)
        assert applied.update_id == first
        assert applied.options.targets == ("fr",)
        assert 0 < applied.effective_at_ms <= 1_700
        gone = finals(seen)[0, "de"]
        assert gone.text
        await stream.send(house.speech(0.0, 1, 0.6))
        second = await stream.update(add=("zh", "fr"))
        assert (await until(stream, ConfigApplied, seen)).update_id == second
        await stream.send(house.speech(0.2, 1.2, 0.6))
        await stream.end()
        seen += [event async for event in stream]
    assert isinstance(seen[-1], Summary)
    told = finals(seen)
    segments = [event.segment for event in seen if isinstance(event, SpeechStarted)]
    assert set(told) >= {(0, "de"), (0, "fr"), *((segment, "zh") for segment in segments[1:])}
    assert not any(segment for segment, language in told if language == "de")
    at = seen.index(applied)
    assert not any(isinstance(event, Caption) and event.language == "de" for event in seen[at:])
    with next(tmp_path.iterdir()).open("rb") as file:
        recording = Recording(file)
        session = Session(recording.config, house.Words(), window=recording.window)
        again = finals([event for _, events in rerun(recording, session) for event in events])
    assert {key: caption.text for key, caption in again.items()} == {key: caption.text for key, caption in told.items()}


REJECTED = {
    "an unknown language": ({"add": ("xx",)}, "add_targets[0].language"),
    "a language the model lacks": ({"add": ("ja",)}, "it knows en"),
    "an unknown one to remove": ({"remove": ("xx",)}, "remove_targets[0]"),
    "too many": ({"add": ("en", "zh", "fr", "es", "it")}, "would make 6 languages; at most 5"),
    "a list without end": ({"add": ("fr",) * 1_000}, "has 1000 languages"),
    "none left": ({"remove": ("de",)}, "would leave no language"),
    "a pair it doesn't translate": ({"add": ("it",)}, "not from here"),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_an_update_is_rejected_whole_and_the_stream_goes_on(house, case):
    wanted, words = REJECTED[case]

    def ask(target, _source):
        if target == "it":
            raise UnsupportedLanguage("not from here")

    seen = []
    async with house.running(house.served(ask=ask)) as (_, client), client.stream(StreamOptions(("de",))) as stream:
        number = await stream.update(**wanted)
        rejected = await until(stream, ConfigRejected, seen)
        assert rejected.update_id == number
        assert words in rejected.message
        await stream.send(house.speech(0.2, 1, 0.5))
        await stream.end()
        seen += [event async for event in stream]
    assert set(finals(seen)) == {(0, "de")}


async def test_every_update_is_answered_exactly_once_in_order(house):
    wishes = [("fr", ""), ("", "de"), ("xx", ""), ("de", "fr"), ("", "de"), ("zh", "de")] * 4
    messages = [house.opening()]
    for number, (add, remove) in enumerate(wishes, 1):
        messages.append(audio_message((house.speech(0.0, 0.3) * 32767).astype("<i2").tobytes(), number))
        message = ClientMessage()
        message.update.update_id = 7 * number
        if add:
            message.update.add_targets.add().language = add
        message.update.remove_targets.extend([remove] if remove else [])
        messages.append(message)
    async with house.running() as (server, _):
        responses = await house.talk(server, *messages)
    answers = [r for r in responses if r.WhichOneof("event") in ("config_applied", "config_rejected")]
    ids = [getattr(r, r.WhichOneof("event")).update_id for r in answers]
    assert ids == [7 * number for number in range(1, len(wishes) + 1)]
    offsets = [r.config_applied.effective_at_ms for r in answers if r.WhichOneof("event") == "config_applied"]
    assert offsets == sorted(offsets)
    assert [r.event_sequence for r in responses] == list(range(1, len(responses) + 1))
    assert responses[-1].WhichOneof("event") == "summary"
    targets, since = {"de"}, 0
    for response in responses:
        if response.WhichOneof("event") == "config_applied":
            targets = {target.language for target in response.config_applied.config.targets}
            since = response.config_applied.effective_at_ms
        elif response.WhichOneof("event") == "caption" and response.caption.start_ms >= since:
            assert response.caption.language in targets


async def test_an_old_call_is_told_before_it_is_ended(house):
    seen = []
    config = house.configured(Limits(max_connection_ms=2_000, max_real_time_factor=1e6), last_words_ms=1_000)
    async with house.running(config=config) as (_, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.send(house.speech(0.2, 1))
        with pytest.raises(TimedOut):
            await until(stream, Exception, seen)
    [away] = [event for event in seen if isinstance(event, GoAway)]
    assert away.reason == "max_age"
    assert 100 <= away.time_left_ms <= 500  # a quarter of its time
    assert isinstance(seen[-1], Summary)
    assert finals(seen[seen.index(away) :])


async def test_a_server_that_leaves_tells_everybody_at_once_how_long_they_are_heard(house):
    seen = []
    async with (
        house.running(config=house.configured(last_words_ms=200)) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        assert isinstance(await until(stream, Started, seen), Started)
        await stream.send(house.speech(0.2, 1))
        stopping = asyncio.create_task(server.stop(700))
        away = await until(stream, GoAway, seen)
        assert away.reason == "shutdown"
        assert 300 <= away.time_left_ms <= 500
        await stream.send(house.speech(0.0, 0.5))  # is heard yet
        with pytest.raises(Unavailable):
            await until(stream, Exception, seen)
        await stopping
    assert seen[-1].audio_ms == 1_700
    assert sum(isinstance(event, GoAway) for event in seen) == 1
