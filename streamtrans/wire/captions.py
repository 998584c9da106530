"""Captions as increments, and back: the encoder remembers what was sent, the reducer what was received.

```
last sent   |======== committed ========|~~~~~~ tentative ~~~~~~|
this one    |======== committed ========|==== append ====|~ new tail ~|
                                        |- agrees -|-- withdrawn --|
```
``withdrawn`` is what the viewer sees vanish: the old tail beyond the point where the new text (append, then
new tail) stops agreeing with it, in Unicode code points; less what only moves on to the next segment.
"""

from __future__ import annotations

from dataclasses import replace

from streamtrans.core import (
    Caption,
    Doubt,
    Event,
    SpeechEnded,
    SpeechStarted,
    StreamtransError,
    Word,
    milliseconds,
    samples,
)
from streamtrans.v1 import streamtrans_pb2 as pb

Key = tuple[int, str]
"""Segment and language."""


SPEECH_STARTED = pb.SPEECH_EVENT_TYPE_SPEECH_STARTED

KEPT_FINALS = 64
"""Closed lines that either side remembers, to notice captions that come after them: more than are open at a time."""


class BrokenPromise(StreamtransError):
    """A caption takes back committed text, or follows a final one."""


class LostMessage(StreamtransError):
    """The received captions have a gap: something that was sent has not arrived."""


class Encoder:
    """Turn events into messages that say only what is new to a client that received all earlier ones.

    Encode an event when it is about to be sent, not before: captions that were replaced while they
    waited may be left out without losing text.
    """

    def __init__(self, unknown: int | None = None) -> None:
        """Begin.

        Args:
            unknown: captions of one line that the client may hold of an earlier call, at most: the first one of each
                line replaces them. ``None``: it holds none.
        """
        self._unknown = unknown
        self._sent: dict[Key, Caption] = {}
        """What the client holds of lines that are open or were closed lately; ``revision`` counts the captions sent."""

    def encode(self, event: Event) -> pb.StreamTranslateResponse:
        """Return the message for ``event``, without its envelope.

        Raises:
            BrokenPromise: a caption contradicts one that was sent.
        """
        if isinstance(event, Caption):
            return pb.StreamTranslateResponse(caption=self._increment(event))
        if isinstance(event, SpeechStarted):
            kind, position = pb.SPEECH_EVENT_TYPE_SPEECH_STARTED, event.start
        else:
            kind, position = pb.SPEECH_EVENT_TYPE_SPEECH_ENDED, event.end
        return pb.StreamTranslateResponse(
            speech=pb.SpeechEvent(type=kind, segment_id=event.segment, offset_ms=milliseconds(position))
        )

    def snapshots(self) -> list[pb.StreamTranslateResponse]:
        """Return one message per line that is open or was closed lately, with all of its text, for a late reader."""
        return [
            pb.StreamTranslateResponse(caption=_message(sent, append=sent.committed, withdrawn=0, snapshot=True))
            for sent in self._sent.values()
        ]

    def _increment(self, caption: Caption) -> pb.Caption:
        key = (caption.segment, caption.language)
        before = self._sent.get(key)
        snapshot = before is None and self._unknown is not None
        if before is None:
            before = replace(caption, revision=self._unknown or 0, committed="", tentative="", final=False)
        if before.final:
            raise BrokenPromise(f"segment {caption.segment}, {caption.language}: a caption follows the final one")
        if not caption.committed.startswith(before.committed):
            raise BrokenPromise(f"segment {caption.segment}, {caption.language}: committed text was taken back")
        if caption.final and caption.tentative:
            raise BrokenPromise(f"segment {caption.segment}, {caption.language}: a final caption has a tail")
        append = caption.committed[len(before.committed) :]
        lost = _lost(before.tentative, append + caption.tentative, caption.moved)
        sent = replace(caption, revision=before.revision + 1)
        message = _message(sent, append=append, withdrawn=lost, snapshot=snapshot)
        self._sent[key] = sent
        if sent.final:
            _forget(self._sent)
        return message


class Reducer:
    """Turn messages back into events; each caption comes out as a complete reading."""

    def __init__(self) -> None:
        self._held: dict[Key, Caption] = {}

    def reduce(self, response: pb.StreamTranslateResponse | pb.WatchCaptionsResponse) -> Event | None:
        """Return the event that ``response`` carries; ``None`` where it carries something else.

        Raises:
            LostMessage: a caption's revision doesn't follow the one received before it.
        """
        kind = response.WhichOneof("event")
        if kind == "caption":
            return self._apply(response.caption)
        if kind != "speech":
            return None
        speech = response.speech
        if speech.type == pb.SPEECH_EVENT_TYPE_SPEECH_STARTED:
            return SpeechStarted(segment=speech.segment_id, start=samples(speech.offset_ms))
        if speech.type == pb.SPEECH_EVENT_TYPE_SPEECH_ENDED:
            return SpeechEnded(segment=speech.segment_id, end=samples(speech.offset_ms))
        return None

    def _apply(self, message: pb.Caption) -> Caption:
        key = (message.segment_id, message.language)
        held = self._held.get(key)
        committed, revision = (held.committed, held.revision) if held is not None else ("", 0)
        if message.snapshot:
            committed = ""
        elif message.revision != revision + 1:
            raise LostMessage(
                f"segment {message.segment_id}, {message.language}: "
                f"revision {message.revision} came after {revision}, expected {revision + 1}"
            )
        caption = Caption(
            segment=message.segment_id,
            revision=message.revision,
            language=message.language,
            committed=committed + message.committed_append,
            tentative=message.tentative,
            final=message.final,
            start=samples(message.start_ms),
            end=samples(message.end_ms),
            heard=samples(message.heard_ms),
            stability=message.stability,
            complete=not message.incomplete,
            doubt=_doubt(message),
            words=tuple(map(_word, message.words)),
        )
        self._held[key] = caption
        if caption.final:
            _forget(self._held)
        return caption


def _doubt(message: pb.Caption) -> Doubt | None:
    doubt = Doubt(message.other_language or None, message.held_back, message.chatter)
    return doubt if doubt.told else None


def _forget(held: dict[Key, Caption]) -> None:
    """Drop the finals that nothing refers to any more, so that a stream of hours takes no more than one of minutes."""
    closed = [key for key, caption in held.items() if caption.final]
    for key in closed[:-KEPT_FINALS]:
        del held[key]


def _lost(before: str, now: str, moved: str) -> int:
    """Return how many code points of the tail ``before`` neither ``now`` shows nor, after that, ``moved``."""
    rest = before[_common_prefix(before, now) :]
    stays = _common_prefix(rest.lstrip(), moved.lstrip())
    return len(rest.lstrip()) - stays if stays else len(rest)


def _common_prefix(one: str, other: str) -> int:
    """Return how many code points the two texts share at their beginning."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _message(caption: Caption, *, append: str, withdrawn: int, snapshot: bool) -> pb.Caption:
    return pb.Caption(
        segment_id=caption.segment,
        revision=caption.revision,
        language=caption.language,
        committed_append=append,
        tentative=caption.tentative,
        withdrawn=withdrawn,
        snapshot=snapshot,
        final=caption.final,
        start_ms=milliseconds(caption.start),
        end_ms=milliseconds(caption.end),
        stability=caption.stability,
        heard_ms=milliseconds(caption.heard),
        incomplete=not caption.complete,
        other_language=caption.doubt.language or "" if caption.doubt else "",
        held_back=caption.doubt is not None and (caption.doubt.certain or caption.doubt.cut),
        chatter=caption.doubt is not None and caption.doubt.chatter,
        words=map(_word_to_proto, caption.words),
    )


def _word_to_proto(word: Word) -> pb.Word:
    start_ms, end_ms = (None if at is None else milliseconds(at) for at in (word.start, word.end))
    return pb.Word(text=word.text, confidence=word.confidence, start_ms=start_ms, end_ms=end_ms)


def _word(message: pb.Word) -> Word:
    start = samples(message.start_ms) if message.HasField("start_ms") else None
    end = samples(message.end_ms) if message.HasField("end_ms") else None
    return Word(message.text, message.confidence, start, end)
