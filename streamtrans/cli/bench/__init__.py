"""``streamtrans bench``: measurements, each stored with the command that made it.

One file per measurement; ``report`` stores and prints, the others read the options.
"""

from streamtrans.cli.bench import costs, cuts, hearing, rereading, segments
from streamtrans.cli.bench.verbs import bench

__all__ = ["bench", "costs", "cuts", "hearing", "rereading", "segments"]
