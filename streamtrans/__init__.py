"""Live speech translation: stream audio in, read calm translated captions out."""

__version__ = "0.1.0"
