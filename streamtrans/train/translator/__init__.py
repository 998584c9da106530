"""Train a small translator of texts on tables of parallel sentences, to stand behind a model that hears.

It is an M2M-100 as SMaLL-100 asks it: the language to write stands before the text.
"""
