"""A Discord of our own: its HTTP API, gateway, voice gateway and voice over UDP, as far as a bot needs it.

What is sent is the documented protocol (version 10; voice version 8, ``aead_xchacha20_poly1305_rtpsize``); what comes
is taken down, and what doesn't belong there is an error.
"""

import asyncio
import json
import struct
from contextlib import suppress

import av
import nacl.secret
import numpy as np
from aiohttp import WSMsgType, web

BOT, GUILD, TEXT, VOICE = "1000", "2000", "3000", "3001"
KEY = bytes(range(32))
MODE = "aead_xchacha20_poly1305_rtpsize"
TOKEN, VOICE_TOKEN, SESSION = "the.bot.token", "the-voice-token", "the-session"
SINCE = "2026-11-28T08:00:00+00:00"


def user(number, name):
    return {"id": number, "username": name.lower(), "discriminator": "0", "global_name": name, "avatar": None}


def member(number, name):
    about = {"roles": [], "joined_at": SINCE, "deaf": False, "mute": False, "flags": 0, "nick": None}
    return {"user": user(number, name), **about}


def voice_state(number, channel):
    flags = dict.fromkeys(("deaf", "mute", "self_deaf", "self_mute", "self_video", "suppress"), False)
    return {"user_id": number, "channel_id": channel, "session_id": f"s{number}", "guild_id": GUILD, **flags}


def message(content):
    return {
        "id": "9", "channel_id": TEXT, "author": user(BOT, "Captions"), "content": content, "timestamp": SINCE,
        "edited_timestamp": None, "tts": False, "mention_everyone": False, "mentions": [], "mention_roles": [],
        "attachments": [], "embeds": [], "pinned": False, "type": 0,
    }  # fmt: skip


def answered(what, status=200):
    """Return what discord.py takes for JSON, whose type has no parameter."""
    return web.Response(body=json.dumps(what).encode(), status=status, content_type="application/json")


class Discord:
    """Who is there: ``people`` by id, all of them in the voice channel."""

    def __init__(self, people):
        self.people = people
        self.requests, self.heard, self.voice_heard, self.problems = [], [], [], []
        self.entered = False
        self.commands, self.silenced = None, False
        self._sequence = self._asked = 0
        self._sockets = set()
        self._speaking = {}

    async def __aenter__(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/gateway/", self._gateway),
                web.get("/", self._voice),
                web.route("*", "/api/v10/{path:.*}", self._api),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.host = "{}:{}".format(*self._runner.addresses[0])
        self._udp, self._udp_end = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Udp(self), local_addr=("127.0.0.1", 0)
        )
        return self

    async def __aexit__(self, *_):
        self._udp.close()
        for socket in list(self._sockets):
            await socket.close()
        await self._runner.cleanup()

    # --- HTTP

    async def _api(self, request):
        path, method = request.match_info["path"], request.method
        body = await request.json() if request.can_read_body else None
        self.requests.append((method, path, dict(request.query), body))
        known = request.headers.get("Authorization") == f"Bot {TOKEN}"
        if path.startswith(("users", "oauth2", "applications", "channels")) and not known:
            return answered({"message": "401: Unauthorized", "code": 0}, 401)
        if self.silenced and path.startswith("channels"):
            return answered({"message": "Missing Permissions", "code": 50013}, 403)
        made = self._answer(method, path, body)
        if made is None:
            self.problems.append((method, path))
            return answered({"message": "404: Not Found", "code": 0}, 404)
        return answered(made)

    def _answer(self, method, path, body):
        match method, path.split("/"):
            case "GET", ["users", "@me"]:
                return user(BOT, "Captions") | {"bot": True}
            case "GET", ["oauth2", "applications", "@me"]:
                about = {"id": BOT, "name": "Captions", "icon": None, "description": "", "bot_public": True, "flags": 0}
                return {**about, "bot_require_code_grant": False, "verify_key": "", "owner": user("1", "O")}
            case "PUT", ["applications", application, "commands"] if application == BOT:
                self.commands = body
                about = {"application_id": BOT, "version": "1", "default_member_permissions": None}
                return [{**each, **about, "id": str(5000 + n)} for n, each in enumerate(body)]
            case "POST", ["interactions", _, "itoken", "callback"]:
                return {"interaction": {"id": "1", "type": 2}}
            case "POST", ["channels" | "webhooks", place, "messages" | "itoken"] if place in (TEXT, BOT):
                return message(body["content"])
        return None

    def posted(self):
        """Return the bodies of messages in the text channel."""
        return [
            body for method, path, _, body in self.requests if (method, path) == ("POST", f"channels/{TEXT}/messages")
        ]

    def answers(self):
        """Return what those who gave commands were told."""
        return [body for _, path, _, body in self.requests if path == f"webhooks/{BOT}/itoken"]

    # --- gateway

    async def _gateway(self, request):
        self._main = socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 45_000}})
        async for each in self._messages(socket, self.heard):
            if each["op"] == 2:
                await self._tell("READY", {
                    "v": 10, "user": user(BOT, "Captions") | {"bot": True}, "session_id": SESSION,
                    "guilds": [{"id": GUILD, "unavailable": True}], "application": {"id": BOT, "flags": 0},
                    "resume_gateway_url": f"ws://{self.host}/gateway/",
                })  # fmt: skip
                await self._tell("GUILD_CREATE", self._guild())
                self.entered = True
            elif each["op"] == 4:
                channel = each["d"]["channel_id"]
                state = voice_state(BOT, channel) | {"session_id": SESSION, "member": member(BOT, "Captions")}
                await self._tell("VOICE_STATE_UPDATE", state)
                if channel is not None:
                    server = {"token": VOICE_TOKEN, "guild_id": GUILD, "endpoint": self.host}
                    await self._tell("VOICE_SERVER_UPDATE", server)
        return socket

    def _guild(self):
        about = {
            "id": GUILD, "name": "Guild", "owner_id": "1", "features": [], "emojis": [], "stickers": [], "threads": [],
            "presences": [], "stage_instances": [], "guild_scheduled_events": [], "verification_level": 0,
            "default_message_notifications": 0, "explicit_content_filter": 0, "mfa_level": 0, "nsfw_level": 0,
            "premium_tier": 0, "preferred_locale": "en-US", "system_channel_flags": 0, "afk_timeout": 300,
            "afk_channel_id": None, "member_count": len(self.people) + 1, "large": False, "soundboard_sounds": [],
        }  # fmt: skip
        everyone = {
            "id": GUILD, "name": "@everyone", "color": 0, "hoist": False, "position": 0, "permissions": str(2**51 - 1),
            "managed": False, "mentionable": False, "flags": 0, "colors": {"primary_color": 0},
        }  # fmt: skip
        channel = {"position": 0, "permission_overwrites": [], "nsfw": False, "parent_id": None, "guild_id": GUILD}
        return about | {
            "roles": [everyone],
            "channels": [
                {**channel, "id": TEXT, "type": 0, "name": "text", "topic": None, "rate_limit_per_user": 0},
                {**channel, "id": VOICE, "type": 2, "name": "voice", "bitrate": 64_000, "user_limit": 0},
            ],
            "members": [member(BOT, "Captions"), *(member(number, name) for number, name in self.people.items())],
            "voice_states": [voice_state(number, VOICE) for number in self.people],
        }

    async def _tell(self, kind, data):
        self._sequence += 1
        await self._main.send_json({"op": 0, "s": self._sequence, "t": kind, "d": data})

    async def command(self, name, who, **options):
        """Let somebody give a command in the text channel."""
        self._asked += 1
        given = [{"name": key, "type": 3, "value": value} for key, value in options.items()]
        await self._tell("INTERACTION_CREATE", {
            "id": str(7000 + self._asked), "application_id": BOT, "type": 2, "token": "itoken", "version": 1,
            "guild_id": GUILD, "channel_id": TEXT, "locale": "en-US", "guild_locale": "en-US", "app_permissions": "0",
            "channel": {"id": TEXT, "type": 0, "name": "text", "permissions": "0"}, "entitlements": [], "context": 0,
            "attachment_size_limit": 524_288,
            "authorizing_integration_owners": {}, "member": member(who, self.people[who]) | {"permissions": "0"},
            "data": {"id": "5000", "name": name, "type": 1, "options": given},
        })  # fmt: skip

    async def leave(self, who):
        """Let somebody leave the voice channel."""
        await self._tell(
            "VOICE_STATE_UPDATE", voice_state(who, None) | {"member": member(who, self.people.get(who, "Captions"))}
        )

    # --- voice

    async def _voice(self, request):
        self._voice_socket = socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        await socket.send_json({"op": 8, "d": {"v": 8, "heartbeat_interval": 13_750}})
        async for each in self._messages(socket, self.voice_heard):
            if each["op"] == 0:
                host, port = self._udp.get_extra_info("sockname")
                ready = {"ssrc": 1, "ip": host, "port": port, "modes": [MODE]}
                await socket.send_json({"op": 2, "d": ready})
            elif each["op"] == 1:
                described = {"mode": MODE, "secret_key": list(KEY), "dave_protocol_version": 0}
                await socket.send_json({"op": 4, "d": described})
            elif each["op"] == 3:
                await socket.send_json({"op": 6, "d": {"t": each["d"]["t"]}})
        return socket

    async def speak(self, who, pcm):
        """Send samples, 16 bits at 16 kHz, as a client does: Opus, encrypted, a packet each 20 ms."""
        ssrc = 100 + int(who)
        sent = self._speaking.setdefault(who, [0])
        await self._voice_socket.send_json({"op": 5, "seq": 1, "d": {"user_id": who, "ssrc": ssrc, "speaking": 1}})
        loop = asyncio.get_running_loop()
        began = loop.time()
        for count, packet in enumerate(opus(pcm)):
            await asyncio.sleep(began + count * 0.02 - loop.time())
            sent[0] += 1
            self._udp.sendto(encrypted(packet, sent[0], ssrc), self._udp_end.peer)

    async def _messages(self, socket, kept):
        with suppress(ConnectionError):
            async for each in socket:
                if each.type is not WSMsgType.TEXT:
                    self.problems.append(each)
                    continue
                kept.append(json.loads(each.data))
                yield kept[-1]
        self._sockets.discard(socket)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, discord):
        self.peer = self._discord = None
        self._discord = discord

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, peer):
        if len(data) == 74:
            kind, length, ssrc = struct.unpack_from(">HHI", data)
            if (kind, length, ssrc) != (1, 70, 1):
                self._discord.problems.append(data)
            self.peer = peer
            host, port = peer
            self._transport.sendto(struct.pack(">HHI64sH", 2, 70, 1, host.encode(), port), peer)


def opus(pcm):
    """Return the Opus packets of samples at 16 kHz: 48 kHz, two channels, 20 ms each."""
    codec = av.CodecContext.create("libopus", "w")
    codec.format, codec.layout, codec.sample_rate = "s16", "stereo", 48_000
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=48_000, frame_size=960)
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), "s16", "mono")
    frame.sample_rate = 16_000
    parts = [*resampler.resample(frame)]
    return [bytes(packet) for part in parts for packet in codec.encode(part)]


def encrypted(packet, sequence, ssrc):
    """Return an RTP packet as a voice server sends it: the header of its extension in the clear, the rest sealed."""
    header = struct.pack(">BBHII", 0x90, 0x78, sequence, sequence * 960, ssrc) + b"\xbe\xde\x00\x01"
    loudness = b"\x10\x7f\x00\x00"
    nonce = struct.pack("<I", sequence)
    sealed = nacl.secret.Aead(KEY).encrypt(loudness + packet, header, nonce + bytes(20)).ciphertext
    return header + sealed + nonce
