"""Layers are removed from a checkpoint, those first whose absence costs the least of what the model writes.

What is left is not trained here. Law: interrupted anywhere and resumed, a search ends with the same file.
"""

from streamtrans.compress.pruning.search import ORDERS, Pruned, Pruning, prune
from streamtrans.compress.pruning.stacks import STACKS

__all__ = ["ORDERS", "STACKS", "Pruned", "Pruning", "prune"]
