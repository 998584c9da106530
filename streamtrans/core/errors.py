"""What can go wrong, by name. Every message says what is wrong and what would be right."""

from __future__ import annotations

import traceback


class StreamtransError(Exception):
    """Base of all errors that a user of the program can cause or must handle."""


class BadAudio(StreamtransError):
    """The audio is unreadable, malformed or not what was announced."""


class BadConfig(StreamtransError):
    """A setting is unknown, of the wrong type or out of range."""


class BadModel(StreamtransError):
    """A checkpoint folder is incomplete, unsafe or of an unknown family."""


class UnsupportedLanguage(StreamtransError):
    """A language or a language pair is outside of what the model was trained on."""


class AudioTooLong(StreamtransError):
    """A segment exceeds what the model can hold; the segmenter should have cut it."""


class BadAnswer(StreamtransError):
    """What a model or a detector answered is no number, or of another count: the request fails, and it alone."""


class Lost(StreamtransError):
    """A request is not with the engine any more, or not what it needs to go on: ask again, from the beginning."""


class EngineClosed(StreamtransError):
    """The engine was shut down while a request was waiting for it."""


def loggable(error: object) -> str:
    """Say of an error what a log may hold: the words of ours, and of any other its name and where it arose.

    What others say of what went wrong may quote what they were given: what somebody said, or its translation.
    """
    if not isinstance(error, BaseException):
        return "no error"
    if isinstance(error, StreamtransError | OSError):
        return f"{type(error).__name__}: {error}"
    return "; caused by ".join(_origins(error))


def _origins(error: BaseException) -> list[str]:
    """Return one line for ``error``, and one for each that it came of or, as a group, consists of."""
    lines: list[str] = []
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        calls = [
            f"{frame.filename}:{frame.lineno} ({frame.name})" for frame in traceback.extract_tb(each.__traceback__)
        ]
        lines.append(f"{type(each).__name__}{' at ' + ' < '.join(reversed(calls)) if calls else ''}")
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
    return lines
