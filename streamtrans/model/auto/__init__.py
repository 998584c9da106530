"""Any other class of transformers that makes text of speech, run by transformers itself: right, and slow."""

from streamtrans.model.auto.loading import knows, load

__all__ = ["knows", "load"]
