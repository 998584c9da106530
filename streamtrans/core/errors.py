"""What can go wrong, by name. Every message says what is wrong and what would be right."""


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
