"""Audio language models: a decoder reads what a Whisper encoder heard, some frames made one, among its words.

Law: logits are those of transformers.
"""
