"""Law: everything downstream is mono float32 in [-1, 1] at 16 kHz; time is a sample index.

What arrives (bytes of a call, a file) is turned into that one form here, and any chunking of the same
input gives the same samples.
"""

from streamtrans.audio.chunk import AudioChunk, Samples
from streamtrans.audio.files import duration_seconds, read_audio, stream_file
from streamtrans.audio.mix import MAX_CHANNELS, MAX_RATE, MIN_RATE, Downmix
from streamtrans.audio.pcm import ENCODINGS, Decoder
from streamtrans.audio.windows import Windower, energies

__all__ = [
    "ENCODINGS",
    "MAX_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "AudioChunk",
    "Decoder",
    "Downmix",
    "Samples",
    "Windower",
    "duration_seconds",
    "energies",
    "read_audio",
    "stream_file",
]
