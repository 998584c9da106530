"""Captions of a voice channel on Discord: each speaker by name, in the languages that are asked for there.

    python -m streamtrans_clients.bots.discord --token-file discord.token --server localhost:50051 --to en

``/captions`` in a text channel brings the bot into the voice channel of who says so; final captions are posted where it
was said. ``/captions reads:de`` adds a language, ``/quiet`` ends it.

Discord encrypts sound end to end (DAVE); discord.py holds the keys, its extension for receiving hands on what is still
encrypted, and :func:`opened` brings both together.

Law: what a sink is given is heard in order, each speaker for themselves; a packet that is lost is 20 ms of silence.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import av
import davey
import discord
from discord import app_commands
from discord.ext import voice_recv

from streamtrans.client import ClientError, StreamOptions, TranslationClient
from streamtrans_clients.bots.rooms import Line, Room, RoomError
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    client,
    done,
    explained,
    on_ending,
    program,
    served,
    tell,
    wishes,
)
from streamtrans_clients.sources import SourceError

_RATE = 16_000

_LOST = bytes(_RATE // 50 * 2)
"""A packet that didn't come."""

_SILENCE = b"\xf8\xff\xfe"
"""What stands for silence in Opus; it comes unencrypted."""

_LONGEST = 2_000
"""Characters of a message that Discord takes."""

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.discord --token-file FILE --to en   everything in English too
  python -m streamtrans_clients.bots.discord --token-file FILE --to ''   what is asked for by /captions alone
FILE holds the token of your application at discord.com/developers. Invite it with the scopes bot and
applications.commands, and the permissions Connect, View Channels and Send Messages.
"""


class CaptionSink(voice_recv.AudioSink):
    """Sound of a voice channel, for each speaker apart, as 16-bit samples at 16 kHz.

    Args:
        hear: called in the event loop with speaker and samples.
        loop: the event loop; packets come in a thread of the extension's.
    """

    def __init__(self, hear: Callable[[discord.abc.User, bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._hear = hear
        self._loop = loop
        self._decoders: dict[int, _Decoder] = {}

    def wants_opus(self) -> bool:
        """Say that packets come as they are: they are to be decrypted before they are decoded."""
        return True

    def write(self, user: discord.User | discord.Member | None, data: voice_recv.VoiceData) -> None:
        """Take a packet; whoever isn't known yet can't be named, and their keys aren't known either."""
        voice = self.voice_client
        if user is None or voice is None:
            return
        packet = data.opus and opened(voice, user.id, data.opus)
        if packet is None:
            return
        decoder = self._decoders.setdefault(user.id, _Decoder())
        self._loop.call_soon_threadsafe(self._hear, user, decoder.decode(packet) if packet else _LOST)

    def cleanup(self) -> None:
        """End; nothing is held open."""


class _Decoder:
    """Opus of one speaker, which remembers what came before."""

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("libopus", "r")
        self._codec.format, self._codec.layout, self._codec.sample_rate = "s16", "stereo", 48_000
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)

    def decode(self, packet: bytes) -> bytes:
        """Return the samples of a packet; one that is broken is as good as lost."""
        try:
            frames = self._codec.decode(av.Packet(packet))
        except av.FFmpegError:
            return _LOST
        return b"".join(part.to_ndarray().tobytes() for frame in frames for part in self._resampler.resample(frame))


def opened(voice: voice_recv.VoiceRecvClient, user: int, packet: bytes) -> bytes | None:
    """Return a packet as Opus; ``None`` where its key isn't known, as in the first moments of a call."""
    session = voice._connection.dave_session
    if session is None or not session.ready or packet == _SILENCE:
        return packet
    try:
        plain: bytes = session.decrypt(user, davey.MediaType.audio, packet)
    except ValueError:
        return None
    return plain


class VoiceCaptions:
    """One voice channel: its speakers' captions are posted, a message for each that is final."""

    def __init__(
        self, client: TranslationClient, options: StreamOptions, post: Callable[[str], Awaitable[object]]
    ) -> None:
        self.room = Room(client, options, self._show, self._tell)
        self._post = post
        self._unposted = False

    def hear(self, user: discord.abc.User, sound: bytes) -> None:
        """Take sound of somebody; who speaks is there, but for what comes after they have left."""
        if isinstance(user, discord.Member) and user.voice is None:
            return
        self.room.enter(str(user.id), user.display_name)
        self.room.hear(str(user.id), sound)

    async def _show(self, line: Line) -> None:
        text = discord.utils.escape_markdown(line.caption.text.strip())
        if line.caption.final and text:
            await self._say(f"**{discord.utils.escape_markdown(line.name)}** ({line.caption.language}): {text}")

    async def _tell(self, sentence: str) -> None:
        await self._say(discord.utils.escape_markdown(sentence))

    async def _say(self, text: str) -> None:
        for start in range(0, len(text), _LONGEST):
            try:
                await self._post(text[start : start + _LONGEST])
            except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
                if not self._unposted:
                    tell(f"a caption can't be posted, of which there may be more: {error}")
                self._unposted = True


class CaptionBot(discord.Client):
    """The bot, with its commands: one voice channel per server at a time.

    Args:
        client: the way to the streamtrans server.
        options: what is wanted; as targets what is posted in any case. The form of the sound is Discord's.
    """

    def __init__(self, client: TranslationClient, options: StreamOptions) -> None:
        # Whoever says nothing to the bot mentions nobody by it.
        intents = discord.Intents(guilds=True, voice_states=True)
        super().__init__(intents=intents, allowed_mentions=discord.AllowedMentions.none())
        self._way = client
        self._options = options
        self._calls: dict[int, VoiceCaptions] = {}
        self._doors: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Who asks first is answered first: who asks meanwhile finds the channel joined."""
        self.tree = app_commands.CommandTree(self)
        self.tree.command(name="captions", description="Caption my voice channel here")(self._captions)
        self.tree.command(name="quiet", description="End the captions")(self._quiet)

    async def setup_hook(self) -> None:
        """Make the commands known."""
        await self.tree.sync()

    async def on_voice_state_update(
        self, member: discord.Member, _before: discord.VoiceState, after: discord.VoiceState
    ) -> None:
        """Whoever leaves the voice channel is captioned to the end, and reads no more; sent away, the bot ends."""
        call, voice = self._calls.get(member.guild.id), member.guild.voice_client
        if member == member.guild.me and after.channel is None:
            await self.hang_up(member.guild)
        elif call is not None and voice is not None and after.channel != voice.channel:
            await call.room.leave(str(member.id))

    async def _captions(self, interaction: discord.Interaction, reads: str | None = None) -> None:
        """Caption the voice channel of who asks.

        Args:
            interaction: who asks, and where.
            reads: a language to read, such as de.
        """
        member, channel = interaction.user, interaction.channel
        if not isinstance(member, discord.Member) or member.voice is None or member.voice.channel is None:
            await interaction.response.send_message("Join a voice channel first.", ephemeral=True)
            return
        await interaction.response.defer(ephemeral=True)
        assert isinstance(channel, discord.abc.Messageable)
        async with self._doors[member.guild.id]:
            call = self._calls.get(member.guild.id) or VoiceCaptions(self._way, self._options, channel.send)
            answer = await self._called(call, member, member.voice.channel, reads)
        await interaction.followup.send(answer, ephemeral=True)

    async def _called(
        self,
        call: VoiceCaptions,
        member: discord.Member,
        channel: discord.VoiceChannel | discord.StageChannel,
        reads: str | None,
    ) -> str:
        """Let somebody read, and join the voice channel where that is new; return the answer."""
        try:
            await call.room.join(str(member.id), member.display_name, reads)
        except (RoomError, ClientError) as error:
            return explained(error, self._way.address)
        if not call.room.options.targets:
            return "Say which language you read: /captions reads:de"
        if member.guild.id not in self._calls:
            self._calls[member.guild.id] = call
            try:
                voice = await channel.connect(cls=voice_recv.VoiceRecvClient, self_mute=True)
            except (discord.DiscordException, TimeoutError):
                del self._calls[member.guild.id]
                return f"I can't join {channel}: may I see and connect to it?"
            voice.listen(CaptionSink(call.hear, asyncio.get_running_loop()))
        return f"Captions in {', '.join(call.room.options.targets)}."

    async def _quiet(self, interaction: discord.Interaction) -> None:
        """End the captions of this server."""
        await interaction.response.defer(ephemeral=True)
        await self.hang_up(interaction.guild)
        await interaction.followup.send("The captions have ended.", ephemeral=True)

    async def hang_up(self, guild: discord.Guild | None) -> None:
        """Leave the voice channel of a server, once the last captions are posted."""
        call = self._calls.pop(guild.id, None) if guild is not None else None
        if guild is None or call is None:
            return
        if guild.voice_client is not None:
            await guild.voice_client.disconnect(force=False)
        await call.room.__aexit__(None, None, None)

    async def close(self) -> None:
        """Leave all voice channels, and Discord."""
        for guild in self.guilds:
            await self.hang_up(guild)
        await super().close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bot; ends with 0 at Ctrl-C, or with 2 and one line about what is wrong."""
    done(parser(), arguments, _run)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = program("discord", "Caption voice channels on Discord, live, in other languages.", EXAMPLES)
    for add in (add_languages, add_server, add_captions):
        add(made)
    made.add_argument("--token-file", type=Path, required=True, metavar="FILE", help="holds the token of the bot")
    return made


async def _run(options: argparse.Namespace) -> None:
    token = options.token_file.read_text(encoding="utf-8").strip()
    async with served(options) as address:
        way = client(options, address)
        async with way, CaptionBot(way, wishes(options)) as bot:
            await way.capabilities()  # a server that isn't there is told before Discord is called
            starting = asyncio.create_task(bot.start(token))
            on_ending(starting.cancel)
            try:
                with suppress(asyncio.CancelledError):
                    await starting
            except discord.LoginFailure as error:
                raise SourceError(f"Discord doesn't know the token in {options.token_file}") from error


if __name__ == "__main__":
    main()
