"""Law: an interrupted run, resumed, gives the losses of the unbroken one; bad data are named line by line.

Fine-tuning a converted Whisper checkpoint into whisperM2M with KVSPN, as arXiv 2508.11189 does: LoRA on the lower
encoder layers, everything else trained, recordings from the corpora that people have.
"""
