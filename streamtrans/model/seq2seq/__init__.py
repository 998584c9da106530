"""Translators of texts with an encoder and a decoder.

Law: their logits are those of transformers; a translated token says which token of the text it looked at.
"""
