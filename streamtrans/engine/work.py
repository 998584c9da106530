"""What the device thread holds of a job: the job, and a conversation for each text that it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamtrans.core import Hypothesis, Job, Reply, Tokens
from streamtrans.decode import Conversation
from streamtrans.engine.scheduler import Ticket
from streamtrans.engine.states import Kept
from streamtrans.model.api import Choices, DecoderCache, Forward, Guess, Propose


@dataclass(eq=False, slots=True)
class Work:
    """A submitted job, from queue to answer. ``talks`` is empty until it is admitted.

    ``begin`` is the sample where the first frame of what was heard begins, ``state`` what the next job goes on from.
    """

    job: Job
    reply: Reply
    prompts: tuple[Tokens, ...]
    ticket: Ticket
    kept: Kept
    talks: list[Talk] = field(default_factory=list)
    begin: int = 0
    state: object | None = None


@dataclass(eq=False, slots=True)
class Talk:
    """One conversation: the text of one target. ``pending`` is what it waits for, ``since`` when it asked."""

    work: Work
    conversation: Conversation
    cache: DecoderCache
    pending: Forward | Propose | None = None
    since: int = 0
    hypothesis: Hypothesis | None = None

    def send(self, answer: Choices | Guess | None) -> Forward | Propose | Hypothesis:
        """Return what the conversation wants next, or what it came to; ``None`` begins it."""
        try:
            return next(self.conversation) if answer is None else self.conversation.send(answer)
        except StopIteration as end:  # kept, its traceback would hold the frames of this turn, and they it
            hypothesis: Hypothesis = end.value
            return hypothesis
