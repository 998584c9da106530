"""A model learns from recordings, from another model, or from both: what is left of it after pruning, a smaller one
from a larger, adapters beside four-bit weights, one model per language.

Law: interrupted anywhere and resumed, a training ends with the same file.
"""

from streamtrans.compress.teaching.recipe import Teaching, is_teaching, load_teaching
from streamtrans.compress.teaching.trainer import Taught, teach

__all__ = ["Taught", "Teaching", "is_teaching", "load_teaching", "teach"]
