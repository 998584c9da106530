"""Translators that are one decoder, as Llama is built: the text stands in the prompt.

Law: their logits are those of transformers; a translated token says which token of the text it looked at.
"""
