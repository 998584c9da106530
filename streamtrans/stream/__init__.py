"""Law: committed text only grows; a final caption has nothing tentative.

One stream of speech as a machine without input, output or clock, the policies that decide what it
promises, and the pumps that run it against an engine.
"""

from streamtrans.core import EngineLike
from streamtrans.stream.bridge import awaitable
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.guards import doubted
from streamtrans.stream.lines import Line, Speller
from streamtrans.stream.memory import Memory
from streamtrans.stream.patience import Patience
from streamtrans.stream.policies import POLICIES, Policy, Span, load_policy
from streamtrans.stream.progress import Cursors, SessionStats
from streamtrans.stream.pump import SessionLike, drive, pump, replay, settle
from streamtrans.stream.recording import FileSink, Origin, Recorder, Recording, fingerprint
from streamtrans.stream.records import BadRecording
from streamtrans.stream.rerun import Difference, Differs, rerun
from streamtrans.stream.session import Session
from streamtrans.stream.settings import Setting, Settings, Unmet, arrange
from streamtrans.stream.stages import Spellers, Stages, layout, read_layout, spelling

__all__ = [
    "POLICIES",
    "BadRecording",
    "Cursors",
    "Difference",
    "Differs",
    "EngineLike",
    "FileSink",
    "Line",
    "Memory",
    "Origin",
    "Patience",
    "Policy",
    "Recorder",
    "Recording",
    "Session",
    "SessionConfig",
    "SessionLike",
    "SessionStats",
    "Setting",
    "Settings",
    "Span",
    "Speller",
    "Spellers",
    "Stages",
    "Unmet",
    "arrange",
    "awaitable",
    "doubted",
    "drive",
    "fingerprint",
    "layout",
    "load_policy",
    "pump",
    "read_layout",
    "replay",
    "rerun",
    "settle",
    "spelling",
]
