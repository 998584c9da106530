"""``streamtrans bench``: measurements, each stored with the command that made it.

One file per measurement; ``report`` stores and prints, ``verbs`` reads the options.
"""

from streamtrans.cli.bench.verbs import bench

__all__ = ["bench"]
