"""What programs that others call have in common; what their documents say to type is understood."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from streamtrans_clients.bots import jitsi, twilio, zoom
from streamtrans_clients.bots import meeting as meeting_module
from streamtrans_clients.bots.meeting import Meeting

from streamtrans.client import StreamOptions, TranslationClient
from tests.clients.bots.conftest import TALK
from tests.clients.bots.halls import pieces

PAGE = (Path(__file__).parents[3] / "docs" / "meetings.md").read_text(encoding="utf-8")
HALLS = {"jitsi": jitsi, "twilio": twilio, "zoom": zoom}


def typed():
    """Commands of the page and of the helps, each on one line."""
    helps = (re.sub(r"\n {20,}(?=[^'\s]).*", "", module.EXAMPLES) for module in HALLS.values())
    lines = "\n".join([PAGE, *helps]).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python -m streamtrans_clients.bots.")]


@pytest.mark.parametrize("line", typed())
def test_what_users_are_told_to_type_is_understood(line):
    _, _, module, *words = shlex.split(line)
    HALLS[module.rpartition(".")[2]].parser().parse_args(words)


@pytest.mark.parametrize("name", HALLS)
def test_the_page_ends_each_section_in_a_command(name):
    section = re.search(rf"^## {name.title()}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    assert re.search(rf"```\npython -m streamtrans_clients\.bots\.{name} .*\n```\s*$", section)
    assert f"pip install '.[{name}]'" in section


async def test_law_captions_of_all_are_those_of_one_recording(house):
    shown, options = [], StreamOptions(("de-DE", "fr"))

    async def show(speaker, caption):
        shown.append((speaker.name, caption))

    async def say(meeting, who, name):
        for piece in pieces(TALK, 100):
            await meeting.hear(who, name, options, piece)
            await asyncio.sleep(0.01)

    async with (
        house() as address,
        TranslationClient(address) as client,
        Meeting(client, show, pytest.fail) as meeting,
    ):
        await say(meeting, "1", "Ada")
        await asyncio.sleep(0.5)
        second = meeting.seconds
        await say(meeting, "2", "Bo")
        await meeting.leave("1")
        third = meeting.seconds
        await say(meeting, "1", "Ada L.")
    finals = [(name, each) for name, each in shown if each.final]
    assert {each.language for _, each in finals} == {"de-DE", "fr"}  # as they were asked for
    numbers = {}
    for name, each in finals:
        assert numbers.setdefault(each.segment, name) == name
    assert sorted(numbers) == list(range(6))
    firsts = {name: min(each.start for who, each in finals if who == name) / 16_000 for name in ("Ada", "Bo", "Ada L.")}
    assert firsts["Bo"] - firsts["Ada"] == pytest.approx(second, abs=0.2)
    assert firsts["Ada L."] - firsts["Ada"] == pytest.approx(third, abs=0.2)


async def test_law_times_stay_true_of_who_mutes_the_microphone_again_and_again(house):
    """Nothing is sent meanwhile; and sound that isn't taken moves nothing."""
    shown, options = [], StreamOptions(("de",))
    loud = TALK[32 * 300 : 32 * 1_200]

    async def show(speaker, caption):
        shown.append(caption)

    async with (
        house() as address,
        TranslationClient(address) as client,
        Meeting(client, show, pytest.fail) as meeting,
    ):
        moments = []
        for _ in range(3):
            moments.append(meeting.seconds)
            for piece in pieces(loud, 100):
                await meeting.hear("1", "Ada", options, piece)
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.0)
    starts = [each.start / 16_000 for each in shown if each.final]
    assert starts == pytest.approx(moments, abs=0.3)
    assert moments[2] > 3.6


async def test_who_comes_back_to_a_meeting_while_their_last_captions_come_is_heard(house):
    shown = set()

    async def show(speaker, caption):
        shown.add(speaker.name)

    async with (
        house() as address,
        TranslationClient(address) as client,
        Meeting(client, show, pytest.fail) as meeting,
    ):
        await meeting.hear("1", "Ada", StreamOptions(("de",)), TALK)
        leaving = asyncio.create_task(meeting.leave("1"))
        await asyncio.sleep(0)
        await meeting.hear("1", "Ada again", StreamOptions(("de",)), TALK)
        await leaving
    assert shown == {"Ada", "Ada again"}


async def test_of_more_than_can_speak_the_first_are_heard(house, monkeypatch):
    monkeypatch.setattr(meeting_module, "_MOST", 2)
    told, heard = [], set()

    async def show(speaker, caption):
        heard.add(speaker.who)

    async with (
        house() as address,
        TranslationClient(address) as client,
        Meeting(client, show, told.append) as meeting,
    ):
        for piece in pieces(TALK, 100):
            for who in ("1", "2", "3", "3"):
                await meeting.hear(who, who, StreamOptions(("de",)), piece)
            await asyncio.sleep(0.01)
    assert heard == {"1", "2"}
    assert told == ["2 speak already; 3 isn't heard"]
