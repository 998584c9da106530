"""The device thread: takes what was submitted, batches what all conversations wait for, answers futures.

Law: equal jobs give equal answers, whatever their neighbours. Whatever goes wrong with one request stays with
it: a batch that fails is run again one by one, and only the broken member fails.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from streamtrans.core import (
    BadConfig,
    DecodeStats,
    Detect,
    Detection,
    EngineClosed,
    Health,
    Hypothesis,
    Job,
    Reading,
    Reply,
    Request,
    StateHandle,
)
from streamtrans.decode import parse_drafters
from streamtrans.engine.config import EngineConfig
from streamtrans.engine.device import Device
from streamtrans.engine.outcomes import attempt, each
from streamtrans.engine.scheduler import Ticket, admit, oldest
from streamtrans.engine.stages import (
    UNAIDED,
    Stage,
    open_ear,
    open_translations,
    plan,
    to_translate,
    without_speculator,
)
from streamtrans.engine.states import States
from streamtrans.engine.stats import EngineStats
from streamtrans.engine.watch import Trouble
from streamtrans.engine.work import Plan, Talk, Work
from streamtrans.model.api import Choices, Forward, Guess, Heard, Hearing, Propose, SpeechModel, TextModel
from streamtrans.text import warm

if TYPE_CHECKING:
    from streamtrans.vad import Vad

A = TypeVar("A")

_log = logging.getLogger(__name__)


class Engine:
    """Answers :class:`Detect` and :class:`Job` requests from any thread, on one thread of its own.

    Args:
        model: the weights; after construction only the device thread calls it.
        vads: makes the detector of a name; called once per name, on the device thread.
        config: how much at once, and how to decode.
        translator: of what the model hears into other languages.

    Raises:
        BadConfig: the drafter needs a speculative network and the model has none.
    """

    def __init__(
        self,
        model: SpeechModel,
        vads: Callable[[str], Vad],
        config: EngineConfig | None = None,
        translator: TextModel | None = None,
    ) -> None:
        self.model, self.translator = model, translator
        self.config = config or EngineConfig()
        spec = self.config.drafter or ("echo,kvspn" if model.has_speculator else UNAIDED)
        drafters = parse_drafters(spec)
        if drafters.needs_speculator and not model.has_speculator:
            raise BadConfig(f"drafter {spec!r} needs a speculative network, and {model.name} has none: use {UNAIDED}")
        slots = self.config.slots
        self._ear = Stage(model, model.allocate(slots), drafters, model.draft_acceptance)
        self._stages = [self._ear]
        if translator is not None:
            behind = without_speculator(parse_drafters(self.config.drafter or UNAIDED))
            self._stages.append(Stage(translator, translator.allocate(slots), behind))
        self._device = Device(model, vads, self._ear.slots, self.config.stall_s)
        if self.config.guard:
            warm()
        self._states = States(self.config.state_s)
        self._trouble = {detects: Trouble() for detects in (True, False)}
        self._suspect: Request | None = None  # its failure may be the device's
        self._inbox: queue.SimpleQueue[tuple[Request, Reply] | None] = queue.SimpleQueue()
        self._asked: dict[Reply, Request] = {}  # whoever takes a reply out of it answers it
        self._door = threading.Lock()  # so that no request slips in behind the one that closes
        self._closed = False
        self._detects: list[tuple[Detect, Reply]] = []
        self._waiting: dict[Ticket, Work] = {}
        self._live: list[Work] = []
        self._count = 0
        # What is switched off where an engine is made is so for the detectors that its thread makes.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name="streamtrans-device", daemon=True)
        self._thread.start()

    @property
    def capacity(self) -> int:
        """Texts that can be decoded at once."""
        return self._ear.slots.capacity

    @property
    def owner(self) -> str:
        """Of the handles that this engine gives out."""
        return self._states.owner

    @property
    def stats(self) -> EngineStats:
        """A snapshot of the counters; any thread may ask."""
        return replace(self._device.stats, waiting=len(self._waiting), live=len(self._live), free=self._free)

    @property
    def _free(self) -> int:
        return self.capacity - sum(work.plan.slots for work in [*self._live])

    @property
    def health(self) -> Health:
        """Whether it answers; ``STALLED`` while the device is busy with one call for far longer than it ever is."""
        if self._closed:
            return Health.CLOSED
        return Health.STALLED if self._device.watch.stalled else Health.SERVING

    def submit(self, request: Request) -> Reply:
        """Queue a request; its reply is given by the device thread.

        Cancelling the reply at any time before it is given frees what the request holds. It fails with
        :class:`EngineClosed` when the engine closes first, and else with what is wrong with the request.
        """
        reply = Reply()
        with self._door:
            if not self._closed:
                self._asked[reply] = request
                self._inbox.put((request, reply))
                return reply
        reply.set_exception(EngineClosed("the engine is closed: submit to a new one"))
        return reply

    def release(self, state: StateHandle) -> None:
        """Forget what is kept under ``state``; any thread may say so."""
        self._states.drop(state)

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish the current turn, fail everything that waits, and stop; closing twice is fine.

        A device that doesn't come back within ``timeout_s`` is left behind: nobody waits for it any more.
        """
        with self._door:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _log.error("the device didn't answer within %g s; it is left behind", timeout_s)
                self._fail_all(EngineClosed("the engine was closed while its device hung: submit to a new one"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the device thread, from here on ----

    def _run(self) -> None:
        try:
            while self._take():
                started = time.perf_counter()
                self._turn()
                self._device.count(busy_s=time.perf_counter() - started)
        finally:
            self._abandon()

    def _take(self) -> bool:
        """Take in all that was submitted, waiting only if there is nothing to do; false says to stop."""
        idle = not (self._detects or self._waiting or self._live)
        if idle and (taken := sum(stage.slots.capacity - stage.slots.free for stage in self._stages)):
            raise RuntimeError(f"idle with {taken} slots taken: a leak")
        try:
            # What is kept grows old while nobody asks for anything, too.
            patience_s = self.config.state_s if idle and len(self._states) else None
            while (item := self._inbox.get(block=idle, timeout=patience_s)) is not None:
                idle, patience_s = False, None
                self._accept(*item)
        except queue.Empty:
            return True
        return False

    def _accept(self, request: Request, reply: Reply) -> None:
        if isinstance(request, Detect):
            self._detects.append((request, reply))
            return
        found = attempt(lambda: (self._plan(request), self._states.take(request)))
        if isinstance(found, Exception):
            self._finish(reply, found)
            return
        wanted, kept = found
        if not wanted.slots:
            self._finish(reply, Reading(()))
            return
        self._count += 1
        ticket = Ticket(self._count, request.last, wanted.slots)
        self._waiting[ticket] = Work(request, reply, wanted, ticket, kept)

    def _plan(self, job: Job) -> Plan:
        if len(job.targets) > self.capacity:
            raise BadConfig(
                f"a job in {len(job.targets)} languages needs as many slots, and this engine has"
                f" {self.capacity}: ask for fewer languages, or start it with more slots"
            )
        return plan(job, self.model, self.translator)

    def _turn(self) -> None:
        """Give everybody one step, the quick ones first: a detector never waits for a long text."""
        self._states.sweep()
        self._drop_cancelled()
        self._run_detectors()
        self._start_jobs()
        for stage in self._stages:
            self._answer(Forward, stage, partial(self._device.step, stage.model))
        self._answer(Propose, self._ear, self._device.propose)
        self._translate()
        self._try_device()

    def _drop_cancelled(self) -> None:
        for work in [work for work in (*self._waiting.values(), *self._live) if work.reply.cancelled()]:
            self._end(work, EngineClosed("cancelled"))

    def _run_detectors(self) -> None:
        by_vad: dict[str, list[tuple[Detect, Reply]]] = {}
        for detect, reply in self._detects:
            reply.begun_at = time.monotonic()
            by_vad.setdefault(detect.vad, []).append((detect, reply))
        for asked in by_vad.values():
            outcomes = each(self._device.detect, [detect for detect, _ in asked])
            for (_, reply), outcome in zip(asked, outcomes, strict=True):
                self._finish(reply, outcome)
        self._detects.clear()

    def _start_jobs(self) -> None:
        """Encode the jobs that fit, and open one slot per target of each: encode once, decode many."""
        tickets = admit(
            self._waiting,
            self._free,
            most=self.config.max_batch,
            head_start=self.config.final_head_start,
        )
        if not tickets:
            return
        works = [self._waiting.pop(ticket) for ticket in tickets]
        for work in works:
            work.reply.begun_at = time.monotonic()
        self._live += works
        for work, heard in zip(works, each(self._listen, works), strict=True):
            opened = heard if isinstance(heard, Exception) else attempt(partial(self._open, work, heard))
            if isinstance(opened, Exception):
                self._end(work, opened)
            else:
                self._advance([(talk, None) for talk in work.talks])

    def _listen(self, works: Sequence[Work]) -> list[Heard]:
        """Hear what is new to each job's stream, and final readings anew as a whole where that is wanted."""
        whole = self.config.final_hearing == "whole"
        return self._device.listen(
            [
                Hearing(work.kept.heard(work.job), work.job.start, work.kept.state, work.job.last and whole)
                for work in works
            ]
        )

    def _open(self, work: Work, heard: Heard) -> None:
        work.begin, work.state = heard.begin, heard.state
        open_ear(work, self._ear, self.model, heard.memory, self.config)

    def _translate(self) -> None:
        """Read, all in one batch, what has been heard and is to be translated, and begin a conversation per text."""
        works = [work for work in self._live if work.to_translate]
        if self.translator is None or not works:
            return
        vocabulary = self.model.vocabulary
        texts = [text for work in works for text in to_translate(work, vocabulary)]
        read = iter(each(partial(self._device.read, self.translator), texts))
        for work in works:
            memories = [next(read) for _ in work.plan.translator]
            opened = attempt(partial(open_translations, work, self._stages[-1], memories, self.config, vocabulary))
            if isinstance(opened, Exception):
                self._end(work, opened)
            else:
                self._advance([(talk, None) for talk in work.talks if talk.hypothesis is None])
                self._close_if_done(work)

    def _answer(self, kind: type[A], stage: Stage, call: Callable[[Sequence[A]], Sequence[Choices | Guess]]) -> None:
        """Run the oldest requests of one kind to one model as one batch, and let their conversations go on."""
        asking = (talk for work in self._live for talk in work.talks if talk.stage is stage)
        pending = (talk for talk in asking if isinstance(talk.pending, kind))
        talks = oldest(pending, self.config.max_batch)
        if not talks:
            return
        requests = [talk.pending for talk in talks if isinstance(talk.pending, kind)]
        self._advance(list(zip(talks, each(call, requests), strict=True)))

    def _advance(self, answers: Sequence[tuple[Talk, Choices | Guess | Exception | None]]) -> None:
        """Hand conversations their answers (``None`` begins one) and note what they want next."""
        for talk, answer in answers:
            if not talk.work.talks:
                continue  # a sibling failed a moment ago, and the job with it
            outcome = answer if isinstance(answer, Exception) else attempt(partial(talk.send, answer))
            if isinstance(outcome, Hypothesis):
                talk.pending, talk.hypothesis = None, outcome
                self._close_if_done(talk.work)
            elif isinstance(outcome, Exception):
                self._end(talk.work, outcome)
            else:
                self._count += 1
                talk.pending, talk.since = outcome, self._count

    def _close_if_done(self, work: Work) -> None:
        if work.idle and not work.to_translate:
            kept = self._states.put(work.kept, work.state) if work.job.keep else None
            self._end(work, Reading(work.hypotheses(), kept))

    def _end(self, work: Work, outcome: Reading | Exception) -> None:
        """Give back all that a job holds, then answer it."""
        for talk in work.talks:
            attempt(talk.conversation.close)
            if isinstance(outcome, Exception) and not isinstance(outcome, EngineClosed):
                attempt(partial(talk.stage.slots.wipe, talk.cache))
            talk.stage.slots.release(talk.cache)
        work.talks.clear()
        if self._waiting.pop(work.ticket, None) is None:
            self._live.remove(work)
        self._finish(work.reply, outcome)

    def _finish(self, reply: Reply, outcome: Detection | Reading | Exception) -> None:
        """Answer a request, unless its owner has cancelled it or somebody has closed the engine over it."""
        if reply not in self._asked:
            return
        request = self._asked.pop(reply)
        if self._trouble[isinstance(request, Detect)].note(outcome):
            self._suspect = request
        if not reply.set_running_or_notify_cancel():
            self._device.count(cancelled=1)
        elif isinstance(outcome, Exception):
            self._device.count(failed=1)
            reply.set_exception(outcome)
        else:
            if isinstance(outcome, Reading):
                cost = sum((each.stats for each in outcome.hypotheses), DecodeStats())
                self._device.count(readings=1, decode=cost)
            reply.set_result(outcome)

    def _try_device(self) -> None:
        """After failures, see whether the device is to blame; if so, close: nobody is helped by one that is broken."""
        request, self._suspect = self._suspect, None
        if request is None:
            return
        problem = self._device.try_silence(request)
        if self._trouble[isinstance(request, Detect)].tried(problem):
            _log.error("the device fails at silence too, so the engine closes: %s", problem)
            with self._door:
                self._closed = True
                self._inbox.put(None)

    def _abandon(self) -> None:
        """Shut the door, and fail everything that waits behind it."""
        with self._door:
            self._closed = True
        for work in (*self._waiting.values(), *self._live):
            self._end(work, EngineClosed(_CLOSED))
        self._fail_all(EngineClosed(_CLOSED))

    def _fail_all(self, error: EngineClosed) -> None:
        for reply in [*self._asked]:
            if self._asked.pop(reply, None) is not None and reply.set_running_or_notify_cancel():
                reply.set_exception(error)


_CLOSED = "the engine was closed while this request waited: submit it to a new one"
