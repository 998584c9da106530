"""Live speech translation: stream audio in, read calm translated captions out."""

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["Caption", "Serving", "Translation", "captions", "serving", "translate"]
"""What notebooks and scripts call, of ``scripting.py``; ``__init__.pyi`` says the same to type checkers."""


def __getattr__(name: str) -> object:
    """Import what is used when it is used: whoever needs one room alone doesn't wait for a model's."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("streamtrans.scripting"), name)


def __dir__() -> list[str]:
    """Return what there is, imported or not yet."""
    return [*globals(), *__all__]
