"""Where sound comes from: a microphone, what the machine plays, or a recording in real time; int16 chunks of 100 ms.

Law: of a recording all is played that ``streamtrans translate`` reads of it.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from streamtrans.client import BadAudio, stream_file

CHUNK_MS = 100
"""Larger saves messages; smaller lets the server hear sooner."""

_WAITING_CHUNKS = 600
"""Chunks kept while the network is slow, a minute; larger forgives longer stalls."""

SYSTEM = "system"
"""Names what the machine plays, whatever it is played on."""

_MONITOR, _MONITOR_RATE = "@DEFAULT_MONITOR@", 48_000
_FILE_RATE = 16_000

_PIPE = "ffmpeg -i ADDRESS -f s16le -ar 16000 -ac 1 - | … --file -"

_HEADERS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")
"""How files begin that are no bare samples."""

SILENCE_DB = -60.0
"""What a level meter shows as nothing."""


class SourceError(Exception):
    """There is no sound to be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """Sound as it comes: interleaved little-endian int16 at ``sample_rate_hertz``."""

    name: str
    sample_rate_hertz: int
    channels: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Device:
    """Something that can be listened to: an input by its number, or, as text, a source of PulseAudio."""

    label: str
    place: int | str


def recording(path: str | Path, stop: asyncio.Event, note: Callable[[str], None] = lambda _: None) -> Source:
    """Play a file at the speed at which it was spoken, until its end or until ``stop`` is set.

    ``note`` is told where its header is wrong, its samples are on another scale, or its channels cancel each other.

    Raises:
        SourceError: the file can't be read as audio, or, while it is played, to its end.
    """
    blocks = stream_file(path, CHUNK_MS / 1000, note)
    try:
        first = next(blocks, None)
    except BadAudio as error:
        raise SourceError(str(error)) from error
    if first is None:
        raise SourceError(f"{path}: the file holds no audio")
    return Source(Path(path).name, _FILE_RATE, 1, _played(chain((first,), blocks), stop))


async def _played(blocks: Iterator[npt.NDArray[np.float32]], stop: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield each chunk at the moment at which its last sample would have been spoken."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    played = 0
    try:
        for block in blocks:
            if stop.is_set():
                return
            played += len(block)
            await asyncio.sleep(began + played / _FILE_RATE - clock.time())
            yield np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2").tobytes()
    except BadAudio as error:
        raise SourceError(str(error)) from error


def piped(stop: asyncio.Event) -> Source:
    """Listen to standard input, 16-bit samples at 16 kHz, one channel, as they come, until its end or until ``stop``.

    Raises:
        SourceError: it is a terminal, or, once it is read, a file with a header.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError(f"standard input is no sound; pipe some in: {_PIPE}")
    return Source("standard input", _FILE_RATE, 1, _taken(sys.stdin.buffer, stop))


async def _taken(pipe: BinaryIO, stop: asyncio.Event) -> AsyncIterator[bytes]:
    size = _FILE_RATE * CHUNK_MS // 1000 * 2
    reader = asyncio.StreamReader(limit=2 * size)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    stopped = asyncio.create_task(stop.wait())
    fresh = True
    try:
        while True:
            reading = asyncio.create_task(reader.readexactly(size))
            await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                return
            try:
                chunk = reading.result()
            except asyncio.IncompleteReadError as end:
                chunk = end.partial
            if fresh and chunk.startswith(_HEADERS):
                raise SourceError(f"standard input holds a file with a header; give bare samples: {_PIPE}")
            fresh = False
            if chunk:
                yield chunk
            if len(chunk) < size:
                return
    finally:
        stopped.cancel()
        transport.close()


def inputs() -> list[Device]:
    """Return all that can be listened to: input devices, and what the machine plays where PulseAudio tells it.

    Raises:
        SourceError: the package or the library for sound devices is missing.
    """
    sounddevice = _sounddevice()
    found = [
        Device(device["name"], number)
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]
    return found + [Device(f"{name} (what this machine plays)", name) for name in monitors()]


def monitors() -> list[str]:
    """Return the sources of PulseAudio or PipeWire that give what the machine plays; none where neither runs."""
    if shutil.which("pactl") is None:
        return []
    told = subprocess.run(["pactl", "list", "short", "sources"], capture_output=True, text=True, check=False)
    names = [line.split("\t")[1] for line in told.stdout.splitlines() if line.count("\t") > 1]
    return [name for name in names if name.endswith(".monitor")]


def system_sound(name: str, stop: asyncio.Event) -> Source:
    """Listen to a source of PulseAudio or PipeWire, until ``stop`` is set: a monitor, so what the machine plays.

    Raises:
        SourceError: there is no such source, or nothing to listen with.
    """
    known = monitors()
    if shutil.which("parec") is None or not known:
        raise SourceError(
            "what this machine plays is heard through PulseAudio or PipeWire, and none answers here: is it running,"
            " and is parec installed (apt install pulseaudio-utils)?"
        )
    if name not in (SYSTEM, *known):
        raise SourceError(f"no source {name!r}; there are {', '.join(known)}")
    return Source(name, _MONITOR_RATE, 1, _recorded(_MONITOR if name == SYSTEM else name, stop))


async def _recorded(name: str, stop: asyncio.Event) -> AsyncIterator[bytes]:
    size = _MONITOR_RATE * CHUNK_MS // 1000 * 2
    asked = [f"--device={name}", "--format=s16le", f"--rate={_MONITOR_RATE}", "--channels=1", "--latency-msec=50"]
    process = await asyncio.create_subprocess_exec(
        "parec", "--raw", *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    stopped = asyncio.create_task(stop.wait())
    try:
        while True:
            reading = asyncio.create_task(process.stdout.readexactly(size))
            await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                reading.cancel()
                return
            try:
                yield reading.result()
            except asyncio.IncompleteReadError:
                why = (await process.stderr.read()).decode(errors="replace").strip()
                raise SourceError(f"the sound of {name} has ended: {why or 'its server is gone'}") from None
    finally:
        stopped.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


def microphones() -> list[str]:
    """Return one line per input: its number, its name, and whether it is the default.

    Raises:
        SourceError: the package or the library for sound devices is missing.
    """
    default = _sounddevice().default.device[0]
    return [
        f"{'*' if each.place == default else ' '} {each.place if isinstance(each.place, int) else '':2}  {each.label}"
        for each in inputs()
    ]


def microphone(device: int | str | None, stop: asyncio.Event) -> Source:
    """Listen to an input device, by number or part of its name, until ``stop`` is set.

    Raises:
        SourceError: no such device, or none at all.
    """
    sounddevice = _sounddevice()
    if not any(isinstance(each.place, int) for each in inputs()):
        raise SourceError(
            "there is no microphone; connect one (streamtrans-mic --list-devices shows what is found), "
            "or play a recording with --file"
        )
    try:
        found = sounddevice.query_devices(device, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        raise SourceError(f"no input device {device!r}: {error}; see streamtrans-mic --list-devices") from error
    # The device's own rate always works; the server resamples.
    rate = round(found["default_samplerate"])
    return Source(found["name"], rate, 1, _heard(sounddevice, device, rate, stop))


async def _heard(
    sounddevice: ModuleType, device: int | str | None, rate: int, stop: asyncio.Event
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_CHUNKS)
    lost = asyncio.Event()

    def keep(chunk: bytes) -> None:
        if waiting.full():
            lost.set()
        else:
            waiting.put_nowait(chunk)

    def heard(data: Any, *_unused: object) -> None:  # called by the sound library's own thread
        loop.call_soon_threadsafe(keep, bytes(data))

    try:
        stream = sounddevice.RawInputStream(
            samplerate=rate,
            blocksize=rate * CHUNK_MS // 1000,
            device=device,
            channels=1,
            dtype="int16",
            callback=heard,
        )
        with stream:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(1.0):
                        chunk = await waiting.get()
                except TimeoutError:
                    continue  # a device that stalls must not keep Ctrl-C waiting
                if lost.is_set():
                    raise SourceError("the connection has been too slow for a minute; sound was lost")
                yield chunk
        while not waiting.empty():  # what was said before the end, and the network hadn't taken yet
            yield waiting.get_nowait()
    except sounddevice.PortAudioError as error:
        raise SourceError(f"the microphone can't be opened: {error}; is another program using it?") from error


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise SourceError(
            "listening to a microphone needs the package sounddevice: pip install sounddevice"
            " (in a clone of streamtrans: pip install '.[mic]')"
        ) from error
    except OSError as error:  # what the package raises where PortAudio is missing
        raise SourceError(
            "the sound library PortAudio is missing: apt install libportaudio2 (or brew install portaudio)"
        ) from error
    module: ModuleType = sounddevice
    return module


def loudness(chunk: bytes) -> float:
    """Return the level of int16 samples in decibels below full scale, at least :data:`SILENCE_DB`."""
    samples = np.frombuffer(chunk, "<i2").astype(np.float64) / 32768
    power = float(np.square(samples).mean()) if len(samples) else 0.0
    return max(SILENCE_DB, 10 * float(np.log10(power))) if power > 0 else SILENCE_DB
