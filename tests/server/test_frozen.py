"""Clients and servers of earlier versions, with the stubs they have, and ours: they still understand each other."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamtrans.client import Caption, StreamOptions, Summary, TranslationClient

FROZEN = sorted(path for path in (Path(__file__).parents[1] / "data" / "wire").iterdir() if path.is_dir())

OLD_CLIENT = """
import json, sys
import grpc
from streamtrans.v1 import streamtrans_pb2 as pb, streamtrans_pb2_grpc
assert "data/wire" in pb.__file__.replace("\\\\", "/")

def say():
    yield pb.StreamTranslateRequest(config=pb.SessionConfig(
        audio_format=pb.AudioFormat(encoding=pb.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=16000),
        targets=[pb.TargetConfig(language="de"), pb.TargetConfig(language="fr")], mode=pb.CAPTION_MODE_LIVE))
    sound = sys.stdin.buffer.read()
    for number, start in enumerate(range(0, len(sound), 6400), 1):
        yield pb.StreamTranslateRequest(audio=pb.AudioChunk(data=sound[start:start + 6400], sequence=number))
    yield pb.StreamTranslateRequest(ping=pb.Ping(client_time_ms=5))
    yield pb.StreamTranslateRequest(end_utterance=pb.EndUtterance())
    yield pb.StreamTranslateRequest(silence=pb.Silence(duration_ms=500, sequence=number + 1))
    yield pb.StreamTranslateRequest(end=pb.EndStream(last_sequence=number + 1))

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = streamtrans_pb2_grpc.TranslationServiceStub(channel)
    offered = stub.ListCapabilities(pb.ListCapabilitiesRequest())
    text, kinds, finals, numbers = {}, set(), [], []
    for message in stub.StreamTranslate(say()):
        numbers.append(message.event_sequence)
        kinds.add(message.WhichOneof("event"))
        caption = message.caption
        if message.WhichOneof("event") == "caption":
            key = f"{caption.segment_id} {caption.language}"
            text[key] = ("" if caption.snapshot else text.get(key, "")) + caption.committed_append
            if caption.final:
                finals.append(key)
print(json.dumps({"languages": list(offered.languages), "kinds": sorted(kinds), "numbers": numbers,
                  "finals": {key: text[key] for key in finals}, "audio_ms": message.summary.audio_ms}))
"""

OLD_SERVER = """
import base64, json, sys
from concurrent import futures
import grpc
from streamtrans.v1 import streamtrans_pb2 as pb, streamtrans_pb2_grpc
assert "data/wire" in pb.__file__.replace("\\\\", "/")

class Service(streamtrans_pb2_grpc.TranslationServiceServicer):
    def StreamTranslate(self, requests, context):
        kept = json.load(open(sys.argv[1]))["told"]
        told = [pb.StreamTranslateResponse.FromString(base64.b64decode(data)) for data in kept]
        assert next(requests).WhichOneof("payload") == "config"
        yield told[0]
        *middle, last = [message.WhichOneof("payload") for message in requests]
        assert set(middle) == {"audio"} and last == "end", (middle, last)
        yield from told[1:]

server = grpc.server(futures.ThreadPoolExecutor(2))
streamtrans_pb2_grpc.add_TranslationServiceServicer_to_server(Service(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(0)
"""


@pytest.fixture(params=FROZEN, ids=lambda path: path.name)
def then(request):
    return request.param


async def start(script, folder, *arguments):
    """Start a process that has the stubs of ``folder`` and nothing else of ours."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    alone = os.environ | {"PYTHONPATH": str(folder)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, cwd=folder, env=alone, **pipes
    )


async def test_a_client_of_then_is_served(house, then):
    audio = house.speech(0.4, 1.5, 0.7, 1.2)
    pcm = (audio * 32767).round().astype("<i2")
    async with house.running() as (server, client):
        child = await start(OLD_CLIENT, then, f"127.0.0.1:{server.port}")
        out, err = await asyncio.wait_for(child.communicate(pcm.tobytes()), 60)
        assert child.returncode == 0, err.decode()
        heard = json.loads(out)

        async def close(stream):
            await stream.end_utterance()
            await stream.send_silence(500)

        ours = await house.collect(client, pcm / np.float32(32767), StreamOptions(("de", "fr")), before_end=close)
    finals = {f"{e.segment} {e.language}": e.text for e in ours if isinstance(e, Caption) and e.final}
    assert len(finals) >= 4
    assert heard["finals"] == finals
    assert heard["numbers"] == list(range(1, len(heard["numbers"]) + 1))
    assert heard["kinds"] == ["caption", "pong", "speech", "started", "summary"]
    assert heard["audio_ms"] == 4_300
    assert heard["languages"] == ["en", "de", "zh", "fr", "it", "es"]


async def test_our_client_understands_a_server_of_then(house, then):
    expected = json.loads((then / "conversation.json").read_text(encoding="utf-8"))["finals"]
    child = await start(OLD_SERVER, then, str(then / "conversation.json"))
    async with asyncio.timeout(60):
        port = int(await child.stdout.readline())
        async with TranslationClient(f"127.0.0.1:{port}") as client:
            events = await house.collect(client, house.speech(0.4, 1.5, 0.7), StreamOptions(("de", "fr")))
        child.stdin.close()
        await child.wait()
    assert {f"{e.segment} {e.language}": e.text for e in events if isinstance(e, Caption) and e.final} == expected
    assert isinstance(events[-1], Summary)
    assert (events[-1].segments, events[-1].finals) == (2, 4)
