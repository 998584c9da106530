"""Law: a smaller model is made from a larger one by a rule that is written down, and says what it lost.

A Whisper checkpoint becomes a whisperM2M one with a shallower decoder; fine-tuned models become one.
"""

from streamtrans.compress.convert import convert, kept_layers

__all__ = ["convert", "kept_layers"]
