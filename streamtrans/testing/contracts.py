"""What every detector, policy and drafter must keep, for one's own too: an ``AssertionError`` says what it doesn't.

    from streamtrans.testing.contracts import check_policy
    check_policy(lambda n: MyPolicy(n))

The project's tests run the same over its tables.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio, Hypothesis, Tokens
from streamtrans.decode import Draft, DraftContext, DrafterFactory
from streamtrans.model.api import Guess, Propose
from streamtrans.stream import Policy, Span
from streamtrans.vad import Vad

_CASES = 150
"""Random cases per contract; a fault that one in fifty shows is found nineteen times in twenty."""

_START, _END = 16_000, 48_000


def check_policy(make: Callable[[int], Policy], *, seed: int = 0) -> None:
    """Check policies that ``make`` makes of a number: larger promises no more.

    A promise is a part of the newest reading; a policy remembers nothing, and leaves what it sees as it is.
    """
    draw, span = random.Random(seed), Span(0, _START, _END)
    for _ in range(_CASES):
        readings, other = _readings(draw), _readings(draw)
        promised = []
        for n in (1, 2, 3, 4):
            policy = make(n)
            assert policy.memory >= 1, "a policy sees one reading at least"
            seen = readings[-policy.memory :]
            kept = copy.deepcopy(seen)
            first = policy.promise(seen, span)
            assert 0 <= first <= len(readings[-1].tokens), f"{first} tokens of {len(readings[-1].tokens)} were promised"
            policy.promise(other[-policy.memory :], span)
            assert policy.promise(seen, span) == first, "a policy remembers nothing of what it saw before"
            assert seen == kept, "what a policy sees stays as it is"
            promised.append(first)
        assert promised == sorted(promised, reverse=True), f"a larger number promises no more, and this did: {promised}"


def check_vad(vad: Vad, *, seed: int = 0) -> None:
    """Check a detector: one probability a window, whatever stands beside a stream and however it is cut."""
    assert 160 <= vad.window <= 1_600, "a window holds 10 to 100 ms"
    [(probabilities, state)] = vad.detect([(_windows(vad, seed, 9), None)])
    assert probabilities.shape == (9,), "there is one probability per window"
    assert probabilities.dtype == np.float32, "probabilities are float32"
    assert ((probabilities >= 0) & (probabilities <= 1)).all(), "probabilities lie in [0, 1]"
    assert state is not None, "there is a state to go on from"
    [(quiet, _)] = vad.detect([(np.zeros((40, vad.window), np.float32), None)])
    assert quiet.max() < 0.2, "digital silence is no speech"
    assert vad.detect([]) == [], "no streams give no answers"
    _check_batches(vad, seed)
    _check_pieces(vad, seed)
    _check_refusals(vad, seed)


def check_drafter(factory: DrafterFactory, names: Sequence[str], *, seed: int = 0) -> None:
    """Check drafters: they keep to the room, draft what they were shown or guessed, and say who drafted.

    Args:
        factory: makes one for every text, as ``parse_drafters`` returns it.
        names: what a draft may say of who made it.
        seed: of the cases.
    """
    draw = random.Random(seed)
    for _ in range(_CASES):
        text, previous = _words(draw), _words(draw)
        tokens, room = [1, 2, *text], draw.randint(0, 12)
        drafter = factory.make(DraftContext(2, 0, previous, count=draw.choice([None, 0, 1, 8])))
        for _ in range(draw.randint(0, 8)):
            draft, _ = _ask(drafter.propose, tokens, len(tokens) - 1, 12)
            drafter.verified(draft, round(draw.random() * len(draft.tokens)))
        draft, asked = _ask(drafter.propose, tokens, max(0, len(tokens) - draw.randint(1, 5)), room)
        assert len(draft.tokens) <= room, f"{len(draft.tokens)} tokens were drafted, and there was room for {room}"
        assert draft.name in names, f"the draft says it is {draft.name!r}'s"
        assert draft.top_k == 1, "drafts are verified exactly where nobody asked for less"
        assert tokens == [1, 2, *text], "what a drafter sees stays as it is"
        assert all(request.tokens == (tokens[-1],) for request in asked), "a guess goes on from the newest token"
        assert all(1 <= request.count <= min(8, room) for request in asked), "guesses keep to the room"
        assert factory.needs_speculator or not asked, "who asks for guesses says that it needs a speculative network"
        assert not set(draft.tokens) - {0, 8, *text, *previous}, "a draft is what was shown, or guessed"


class _Cache:
    """A cache that says how much was read; a drafter has no business with more."""

    floor = 0

    def __init__(self, length: int) -> None:
        self.length = length

    def truncate(self, _length: int) -> None:
        raise AssertionError("a drafter has no business with the cache")

    def copy_from(self, _source: object, _length: int) -> None:
        raise AssertionError("a drafter has no business with the cache")


def _ask(propose: Callable[..., object], tokens: list[int], read: int, room: int) -> tuple[Draft, list[Propose]]:
    """Play the loop: answer each proposal with eights; return the draft and what was asked."""
    drafting, asked = propose(tokens, _Cache(read), room), list[Propose]()
    try:
        request = next(drafting)  # type: ignore[call-overload]
        while True:
            asked.append(request)
            request = drafting.send(Guess((8,) * request.count, (-1.0,) * request.count))  # type: ignore[attr-defined]
    except StopIteration as stop:
        return stop.value, asked


def _words(draw: random.Random) -> Tokens:
    return tuple(draw.randint(8, 14) for _ in range(draw.randint(0, 30)))


def _readings(draw: random.Random) -> list[Hypothesis]:
    found = []
    for _ in range(draw.randint(1, 6)):
        count = draw.randint(0, 8)
        tokens = tuple(draw.randint(0, 3) for _ in range(count))
        logprobs = tuple(draw.uniform(-5, 0) for _ in range(count))
        found.append(Hypothesis(tokens, logprobs, ends=tuple(draw.randint(_START, _END) for _ in range(count))))
    return found


def _windows(vad: Vad, seed: int, count: int) -> npt.NDArray[np.float32]:
    """Return noise whose loudness swings over 60 dB, so that detectors change their mind."""
    rng = np.random.default_rng(seed)
    gain = 10 ** rng.uniform(-3, 0, (count, 1))
    return (gain * rng.uniform(-1, 1, (count, vad.window))).astype(np.float32)


def _check_batches(vad: Vad, seed: int) -> None:
    counts = [5, 0, 1, 12, 3]
    parts = [_windows(vad, seed + number, count) for number, count in enumerate(counts)]
    warm = [_windows(vad, seed + 10 + number, number) for number in range(len(counts))]

    def states() -> list[object | None]:
        return [state for _, state in (vad.detect([(each, None)])[0] for each in warm)]

    together = vad.detect(list(zip(parts, states(), strict=True)))
    alone = [vad.detect([(part, state)])[0] for part, state in zip(parts, states(), strict=True)]
    again = _windows(vad, seed + 30, 4)
    for (probabilities, state), (expected, expected_state) in zip(together, alone, strict=True):
        assert np.allclose(probabilities, expected, atol=1e-5), "a stream in a batch gets what it gets alone"
        [(later, _)], [(expected_later, _)] = vad.detect([(again, state)]), vad.detect([(again, expected_state)])
        assert np.allclose(later, expected_later, atol=1e-5), "a state from a batch is the state from alone"


def _check_pieces(vad: Vad, seed: int) -> None:
    windows = _windows(vad, seed + 7, 30)
    before = windows.copy()
    windows.setflags(write=False)
    [(whole, _)] = vad.detect([(windows, None)])
    assert np.array_equal(windows, before), "windows are left as they were"
    state: object | None = None
    pieces = []
    for part in np.split(windows, [1, 2, 2, 9, 20]):
        [(probabilities, state)] = vad.detect([(part, state)])
        pieces.append(probabilities)
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-5), "the state carries a stream across calls"


def _check_refusals(vad: Vad, seed: int) -> None:
    wrong: list[tuple[npt.NDArray[np.float32], object | None]] = [
        (np.zeros(shape, np.float32), None) for shape in ((3, 7), (480,), (2, 3, 4))
    ]
    for windows, state in [*wrong, (_windows(vad, seed, 1), object())]:
        said = _refusal(vad, windows, state)
        assert said is not None, f"windows of shape {windows.shape} with a {type(state).__name__} are refused"
        assert state is not None or f"(count, {vad.window})" in said, "a refusal names the right shape"


def _refusal(vad: Vad, windows: npt.NDArray[np.float32], state: object | None) -> str | None:
    try:
        vad.detect([(windows, state)])
    except BadAudio as error:
        return str(error)
    return None
