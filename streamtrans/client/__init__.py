"""Law: the caller reads what the server promised: complete captions, no gap unnoticed, refusals named.

An async client without torch::

    async with TranslationClient("localhost:50051") as client:
        await client.wait_ready()
        async with client.stream(StreamOptions(targets=("de", "fr"))) as stream:
            await stream.send(samples)
            await stream.end()
            async for event in stream:
                ...
"""

from streamtrans.audio import stream_file
from streamtrans.client.blocking import BlockingStream
from streamtrans.client.both import UtteranceEnd, both_ways
from streamtrans.client.carrier import Tls
from streamtrans.client.client import TranslationClient
from streamtrans.client.errors import (
    ClientError,
    DataLost,
    Denied,
    InvalidRequest,
    Overloaded,
    ServerFault,
    TimedOut,
    Unavailable,
    Unsupported,
)
from streamtrans.client.lasting import Resumed
from streamtrans.client.stream import StreamEvent, TranslationStream
from streamtrans.core import BadAudio, BadConfig, Caption, CaptionChoice, SpeechEnded, SpeechStarted, Word, asked
from streamtrans.text import subtitles
from streamtrans.wire import (
    BYTES_PER_SAMPLE,
    Capabilities,
    ConfigApplied,
    ConfigRejected,
    Cursors,
    Forgotten,
    GoAway,
    Limits,
    Measured,
    Notice,
    Started,
    StreamOptions,
    Summary,
)

__all__ = [
    "BYTES_PER_SAMPLE",
    "BadAudio",
    "BadConfig",
    "BlockingStream",
    "Capabilities",
    "Caption",
    "CaptionChoice",
    "ClientError",
    "ConfigApplied",
    "ConfigRejected",
    "Cursors",
    "DataLost",
    "Denied",
    "Forgotten",
    "GoAway",
    "InvalidRequest",
    "Limits",
    "Measured",
    "Notice",
    "Overloaded",
    "Resumed",
    "ServerFault",
    "SpeechEnded",
    "SpeechStarted",
    "Started",
    "StreamEvent",
    "StreamOptions",
    "Summary",
    "TimedOut",
    "Tls",
    "TranslationClient",
    "TranslationStream",
    "Unavailable",
    "Unsupported",
    "UtteranceEnd",
    "Word",
    "asked",
    "both_ways",
    "stream_file",
    "subtitles",
]
