"""Where sound comes from: a microphone, or a recording played in real time; int16 chunks of 100 ms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

CHUNK_MS = 100
"""Larger saves messages; smaller lets the server hear sooner."""

_WAITING_CHUNKS = 600
"""Chunks kept while the network is slow, a minute; larger forgives longer stalls."""

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


def recording(path: str | Path, stop: asyncio.Event) -> Source:
    """Play a file at the speed at which it was spoken, until its end or until ``stop`` is set.

    Raises:
        SourceError: the file can't be read as audio.
    """
    import soundfile

    class Onwards(soundfile.SoundFile):  # type: ignore[misc]
        """After each block of a seekable file soundfile seeks to where it is, and an MP3 decoder starts anew."""

        def seekable(self) -> bool:
            return False

    try:
        file = Onwards(path)
    except (soundfile.LibsndfileError, OSError, TypeError, UnicodeEncodeError) as error:
        # TypeError: soundfile takes *.raw for headerless audio, whose rate it wants to be told.
        raise SourceError(f"{path}: not audio that can be read; give a WAV, FLAC, OGG or MP3 file") from error
    if file.frames == 0:
        file.close()
        raise SourceError(f"{path}: the file holds no audio")
    return Source(Path(path).name, file.samplerate, file.channels, _played(file, stop))


async def _played(file: Any, stop: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield each chunk at the moment at which its last sample would have been spoken."""
    frames = file.samplerate * CHUNK_MS // 1000
    began = asyncio.get_running_loop().time()
    played = 0
    with file:
        while not stop.is_set() and len(block := file.read(frames, dtype="int16", always_2d=True)):
            played += len(block)
            await asyncio.sleep(began + played / file.samplerate - asyncio.get_running_loop().time())
            yield block.astype("<i2").tobytes()


def microphones() -> list[str]:
    """Return one line per input device: its number, its name, and whether it is the default.

    Raises:
        SourceError: the package or the library for sound devices is missing.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        f"{'*' if number == default else ' '} {number:2}  {device['name']}"
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def microphone(device: int | str | None, stop: asyncio.Event) -> Source:
    """Listen to an input device, by number or part of its name, until ``stop`` is set.

    Raises:
        SourceError: no such device, or none at all.
    """
    sounddevice = _sounddevice()
    if not microphones():
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
                    chunk = await asyncio.wait_for(waiting.get(), 1.0)
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
