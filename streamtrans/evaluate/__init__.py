"""Law: a number is stored with the command that made it, and comes from the objects that are served.

Offline scores of a model, recordings replayed on a virtual clock, and comparisons of the parts that decide
speed. Importing the room loads no torch; measuring does.
"""

from streamtrans.evaluate.dev import DevConfig, DevResult, Text, evaluate_dev
from streamtrans.evaluate.machine import Machine, Measured, Watch, describe_machine, store
from streamtrans.evaluate.replay import Replay, read_offline, replay
from streamtrans.evaluate.spoken import sample

__all__ = [
    "DevConfig",
    "DevResult",
    "Machine",
    "Measured",
    "Replay",
    "Text",
    "Watch",
    "describe_machine",
    "evaluate_dev",
    "read_offline",
    "replay",
    "sample",
    "store",
]
