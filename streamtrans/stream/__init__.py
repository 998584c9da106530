"""Law: committed text only grows; a final caption has nothing tentative.

One stream of speech as a machine without input, output or clock, the policies that decide what it
promises, and the pumps that run it against an engine.
"""

from streamtrans.stream.config import Mode, SessionConfig
from streamtrans.stream.lines import Speller
from streamtrans.stream.policies import POLICIES, Policy, load_policy
from streamtrans.stream.pump import EngineLike, drive, pump, replay, settle
from streamtrans.stream.session import Cursors, Session, SessionStats

__all__ = [
    "POLICIES",
    "Cursors",
    "EngineLike",
    "Mode",
    "Policy",
    "Session",
    "SessionConfig",
    "SessionStats",
    "Speller",
    "drive",
    "load_policy",
    "pump",
    "replay",
    "settle",
]
