"""discord.py and its extension for receiving run our bot against a Discord of our own, which checks what it is told."""

import asyncio
import signal
from contextlib import asynccontextmanager
from types import SimpleNamespace

import davey
import discord
import pytest
import yarl
from discord.ext import voice_recv
from streamtrans_clients.bots import discord as bots_discord
from streamtrans_clients.bots.discord import CaptionBot, CaptionSink, opened
from streamtrans_clients.sources import SourceError

from streamtrans.client import StreamOptions, TranslationClient
from tests.clients.bots.conftest import TALK, settled
from tests.clients.bots.fake_discord import (
    BOT,
    GUILD,
    MODE,
    SESSION,
    TOKEN,
    VOICE,
    VOICE_TOKEN,
    Discord,
    opus,
)
from tests.server.conftest import speech

OTHER = (speech(0.4, 0.9, 0.8, seed=9) * 32_767).astype("<i2").tobytes()
ADA, BO = "11", "12"


@pytest.fixture
async def there(monkeypatch):
    """Discord, with two people in a voice channel; discord.py finds it."""
    async with Discord({ADA: "Ada", BO: "Bo_"}) as made:
        monkeypatch.setattr(discord.http.Route, "BASE", f"http://{made.host}/api/v10")
        gateway = yarl.URL(f"ws://{made.host}/gateway/")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
        connect = discord.http.HTTPClient.ws_connect

        def unencrypted(self, url, **how):  # the one thing that is not as Discord has it
            return connect(self, url.replace("wss://", "ws://"), **how)

        monkeypatch.setattr(discord.http.HTTPClient, "ws_connect", unencrypted)
        yield made
        assert made.problems == []


@asynccontextmanager
async def bot(address, targets=("de",)):
    async with TranslationClient(address) as client, CaptionBot(client, StreamOptions(targets)) as made:
        running = asyncio.create_task(made.start(TOKEN))
        ready = asyncio.create_task(made.wait_until_ready())
        done, _ = await asyncio.wait((running, ready), timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert ready in done, running
        yield made
        await made.close()
        await running


def asked_of(address, token):
    return bots_discord.parser().parse_args(["--server", address, "--token-file", str(token)])


async def asked(there, count=1, **options):
    await there.command("captions", ADA, **options)
    await settled(lambda: len(there.answers()) == count)
    return there.answers()[-1]


async def test_everything_that_is_said_to_discord(there, house, heard, over_grpc):
    async with house() as address, bot(address):
        answer = await asked(there, reads="fr")
        await settled(lambda: there.voice_heard[-1]["op"] == 1 or len(there.voice_heard) > 2)
        await asyncio.gather(there.speak(ADA, TALK), there.speak(BO, OTHER))
        await settled(lambda: len(there.posted()) == 6)
        await there.command("quiet", ADA)
        await settled(lambda: len(there.answers()) == 2)
        expected = {who: await over_grpc(address, heard[who]) for who in (ADA, BO)}
    assert [(each["name"], each["description"]) for each in there.commands] == [
        ("captions", "Caption my voice channel here"),
        ("quiet", "End the captions"),
    ]
    [reads] = there.commands[0]["options"]
    assert (reads["name"], reads["type"], reads["required"]) == ("reads", 3, False)
    [identify] = [each["d"] for each in there.heard if each["op"] == 2]
    assert identify["token"] == TOKEN
    assert identify["intents"] == discord.Intents(guilds=True, voice_states=True).value
    joins = [each["d"] for each in there.heard if each["op"] == 4]
    assert joins == [
        {"guild_id": int(GUILD), "channel_id": int(VOICE), "self_mute": True, "self_deaf": False},
        {"guild_id": int(GUILD), "channel_id": None, "self_mute": False, "self_deaf": False},
    ]
    [hello] = [each["d"] for each in there.voice_heard if each["op"] == 0]
    assert hello == {
        "server_id": GUILD, "user_id": BOT, "session_id": SESSION, "token": VOICE_TOKEN,
        "max_dave_protocol_version": davey.DAVE_PROTOCOL_VERSION,
    }  # fmt: skip
    [chosen] = [each["d"] for each in there.voice_heard if each["op"] == 1]
    assert (chosen["protocol"], chosen["data"]["mode"]) == ("udp", MODE)
    assert answer["content"] == "Captions in de, fr."
    assert there.answers()[1]["content"] == "The captions have ended."
    for each in there.posted():
        assert each["allowed_mentions"] == {"parse": []}
    lines = [each["content"] for each in there.posted()]
    for who, name in ((ADA, "Ada"), (BO, r"Bo\_")):
        for language in ("de", "fr"):
            start = f"**{name}** ({language}): "
            said = [line.removeprefix(start) for line in lines if line.startswith(start)]
            assert said == [text for text in expected[who][language] if text]


async def test_what_is_wrong_is_told_to_who_asks(there, house):
    async with house() as address, bot(address, ()):
        answer = await asked(there, reads="ru")
        assert answer["content"] == "there are no captions in 'ru'; there are some in en, de, zh, fr, it, es"
        assert answer["flags"] == 64  # for their eyes alone
        assert (await asked(there, 2))["content"] == "Say which language you read: /captions reads:de"
        await there.leave(ADA)
        await there.command("captions", ADA, reads="de")
        await settled(lambda: there.requests[-1][1].endswith("/callback"))
        await settled(lambda: there.requests[-1][3]["type"] == 4)
        assert there.requests[-1][3]["data"]["content"] == "Join a voice channel first."
    assert not any(each["op"] == 4 for each in there.heard)


async def test_no_server_is_a_sentence(there, nowhere, tmp_path, capsys):
    async with bot(nowhere):
        answer = await asked(there, reads="de")
    assert f"{nowhere} isn't serving" in answer["content"]
    assert "streamtrans serve" in answer["content"]


def test_the_program_needs_a_server_and_a_token_that_discord_knows(nowhere, tmp_path, capsys):
    (tmp_path / "token").write_text(TOKEN)
    for arguments, why in (
        (["--token-file", str(tmp_path / "token"), "--server", nowhere], f"error: {nowhere} isn't serving"),
        (["--token-file", str(tmp_path / "none"), "--server", nowhere], "No such file"),
    ):
        with pytest.raises(SystemExit, match="2"):
            bots_discord.main(arguments)
        assert why in capsys.readouterr().err


async def test_a_token_that_discord_does_not_know_is_a_sentence(there, house, tmp_path):
    (tmp_path / "token").write_text("another")
    async with house() as address:
        with pytest.raises(SourceError, match="Discord doesn't know the token in"):
            await bots_discord._run(asked_of(address, tmp_path / "token"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_asked_to_end_it_leaves_and_ends_well(there, house, tmp_path, number):
    (tmp_path / "token").write_text(TOKEN)
    async with house() as address:
        running = asyncio.create_task(bots_discord._run(asked_of(address, tmp_path / "token")))
        await settled(lambda: there.commands is not None and there.entered)
        await asked(there, reads="de")
        await settled(lambda: there.heard[-1]["op"] == 4)
        signal.raise_signal(number)
        await running
    assert there.heard[-1]["d"]["channel_id"] is None


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(there, restarted, heard, over_grpc):
    async with bot(restarted.address):
        await asked(there)
        speaking = asyncio.create_task(there.speak(ADA, TALK))
        await asyncio.sleep(1.2)
        await restarted.again()
        await speaking
        await settled(lambda: len(there.posted()) == 2)
        expected = await over_grpc(restarted.address, heard[ADA], ("de",))
    lines = [each["content"].removeprefix("**Ada** (de): ") for each in there.posted()]
    assert lines == [text for text in expected["de"] if text]


async def test_who_leaves_is_captioned_to_the_end(there, house):
    async with house() as address, bot(address) as made:
        await asked(there)
        await there.speak(ADA, TALK[:48_000])  # in the middle of a word
        await there.leave(ADA)
        await settled(there.posted)
        [call] = made._calls.values()
        await settled(lambda: ADA not in call.room._people)
        await there.leave(BOT)  # sent away by somebody
        await settled(lambda: not made._calls)


async def test_a_channel_that_takes_no_posts_is_told_once_and_ends_no_speaker(there, house, capsys):
    async with house() as address, bot(address):
        await asked(there)
        there.silenced = True
        await there.speak(ADA, TALK)
        await settled(lambda: sum(path.startswith("channels") for _, path, *_ in there.requests) >= 2)
        there.silenced = False
        await there.speak(ADA, TALK)
        await settled(lambda: there.requests[-1][1].startswith("channels"))
        await there.command("quiet", ADA)
        await settled(lambda: len(there.answers()) == 2)
    assert capsys.readouterr().err.count("a caption can't be posted") == 1
    assert there.answers()[1]["content"] == "The captions have ended."


async def test_two_who_ask_at_once_are_in_one_room(there, house):
    async with house() as address, bot(address, ()) as made:
        await there.command("captions", ADA, reads="fr")
        await there.command("captions", BO, reads="it")
        await settled(lambda: len(there.answers()) == 2)
        [call] = made._calls.values()
        assert set(call.room.options.targets) == {"fr", "it"}
    assert {each["content"] for each in there.answers()} <= {
        "Captions in fr.", "Captions in it.", "Captions in fr, it.", "Captions in it, fr.",
    }  # fmt: skip
    assert sum(each["op"] == 4 and each["d"]["channel_id"] is not None for each in there.heard) == 1


class Session:
    """What stands for a DAVE session: each user's packets are told apart by their key."""

    ready = True

    def decrypt(self, user_id, media, packet):
        assert media is davey.MediaType.audio
        if packet[:1] != bytes([user_id]):
            raise ValueError("Failed to decrypt: NoDecryptorForUser")
        return packet[1:]


def test_what_is_encrypted_end_to_end_is_opened_with_the_key_of_its_speaker():
    voice = SimpleNamespace(_connection=SimpleNamespace(dave_session=Session()))
    assert opened(voice, 7, b"\x07opus") == b"opus"
    assert opened(voice, 8, b"\x07opus") is None
    assert opened(voice, 8, b"\xf8\xff\xfe") == b"\xf8\xff\xfe"
    voice._connection.dave_session.ready = False
    assert opened(voice, 8, b"opus") == b"opus"
    voice._connection.dave_session = None
    assert opened(voice, 8, b"opus") == b"opus"


async def test_a_packet_that_is_lost_or_broken_is_silence(monkeypatch):
    heard = []
    sink = CaptionSink(lambda user, sound: heard.append((user.id, len(sound))), asyncio.get_running_loop())
    sink._voice_client = SimpleNamespace(_connection=SimpleNamespace(dave_session=None))
    assert isinstance(sink, voice_recv.AudioSink)
    assert sink.wants_opus()
    ada = SimpleNamespace(id=11)
    for packet in (*opus(bytes(6_400))[:3], b"", b"\xff" * 9):
        sink.write(ada, SimpleNamespace(opus=packet))
    sink.write(None, SimpleNamespace(opus=b"x"))
    await asyncio.sleep(0)
    assert {who for who, _ in heard} == {11}
    assert sum(length for _, length in heard) == pytest.approx(5 * 640, abs=128)
