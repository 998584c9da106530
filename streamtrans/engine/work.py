"""What the device thread holds of a job: the job, who writes what of it, and a conversation for each text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamtrans.core import Hypothesis, Job, Reply, Target, Tokens
from streamtrans.decode import Conversation
from streamtrans.engine.scheduler import Ticket
from streamtrans.engine.states import Kept
from streamtrans.model.api import Choices, DecoderCache, Forward, Guess, Propose

if TYPE_CHECKING:
    from streamtrans.engine.stages import Stage


@dataclass(frozen=True, slots=True)
class Asked:
    """One text that is wanted: its place among the targets of the job, -1 where nobody asked for it."""

    place: int
    target: Target
    prompt: Tokens = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Which texts of a job the ear writes, and which are translated from the transcript, the first of the former."""

    ear: tuple[Asked, ...]
    translator: tuple[Asked, ...] = ()

    @property
    def slots(self) -> int:
        """Slots that it needs of each model."""
        return max(len(self.ear), len(self.translator))


@dataclass(eq=False, slots=True)
class Work:
    """A submitted job, from queue to answer. ``talks`` is empty until it is admitted.

    ``begin`` is the sample where the first frame of what was heard begins, ``state`` what the next job goes on from.
    ``found`` holds, by their places, targets of which there was nothing to write.
    """

    job: Job
    reply: Reply
    plan: Plan
    ticket: Ticket
    kept: Kept
    talks: list[Talk] = field(default_factory=list)
    begin: int = 0
    state: object | None = None
    translated: bool = False
    found: dict[int, Hypothesis] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether all texts that were begun are written."""
        return bool(self.talks) and all(talk.hypothesis is not None for talk in self.talks)

    @property
    def to_translate(self) -> bool:
        """Whether the ear has written all of it, and somebody is to translate that."""
        return bool(self.plan.translator) and not self.translated and self.idle

    @property
    def transcript(self) -> Hypothesis:
        """What is translated."""
        found = self.talks[0].hypothesis
        assert found is not None, "the ear has not finished"
        return found

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """Return what the targets of the job came to, in their order."""
        found = self.found | {talk.place: talk.hypothesis for talk in self.talks if talk.hypothesis is not None}
        return tuple(found[place] for place in range(len(self.job.targets)))


@dataclass(eq=False, slots=True)
class Talk:
    """One conversation: the text of one target. ``pending`` is what it waits for, ``since`` when it asked."""

    work: Work
    stage: Stage
    place: int
    conversation: Conversation
    cache: DecoderCache
    finish: Callable[[Hypothesis], Hypothesis]
    """Puts moments of the stream in the place of the frames that a text ends with."""
    pending: Forward | Propose | None = None
    since: int = 0
    hypothesis: Hypothesis | None = None

    def send(self, answer: Choices | Guess | None) -> Forward | Propose | Hypothesis:
        """Return what the conversation wants next, or what it came to; ``None`` begins it."""
        try:
            return next(self.conversation) if answer is None else self.conversation.send(answer)
        except StopIteration as end:  # kept, its traceback would hold the frames of this turn, and they it
            return self.finish(end.value)
