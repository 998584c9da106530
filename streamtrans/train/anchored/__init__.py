"""Fine-tune a real Whisper on synthetic voices without losing what it knows of people.

The stock model is the anchor: first it teaches the encoder to hear audio at its own length, then the decoder learns
to write every language of what it hears, held near the stock decoder where that knows the task.
"""
