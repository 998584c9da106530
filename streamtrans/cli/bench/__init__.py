"""``streamtrans bench``: measurements, each stored with the command that made it.

One file per measurement; ``report`` stores and prints, ``verbs`` and ``costs`` read the options.
"""

from streamtrans.cli.bench import costs
from streamtrans.cli.bench.verbs import bench

__all__ = ["bench", "costs"]
