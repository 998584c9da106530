"""Law: a recipe is a file, and the same file, seed and texts give the same run, interrupted or not.

The objective of whisperM2M with KVSPN, its batches of synthetic speech, and the trainer that runs the stages.
"""
