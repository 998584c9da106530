"""KVSPN at work on slots: chains of guesses, each fed with the one before.

```
 positions    0 … length-1     | unread … newest | guess 1 | guess 2 …
 keys         the base's       | none: a hole; or KVSPN's own, which live as long as the chain does
```

Law: what is guessed here is what the same weights say in training of the same tokens; the slots stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrans.core import BadModel
from streamtrans.model.api import Candidates, Guess, Propose
from streamtrans.model.cache import SlotBatch, SlotCache, SlotCrossing, bias
from streamtrans.model.fused import Own, Passage, Stack, kvspn_stack
from streamtrans.model.layers import attend
from streamtrans.model.linear import Make, make_panels, plain_linear
from streamtrans.model.network import Network


class Guesser:
    """The speculative network of a model, with a copy of the rows of the embedding that it scores."""

    def __init__(self, network: Network, suppression: Tensor, eot: int) -> None:
        assert network.speculator is not None, "this model has no KVSPN"
        self.speculator, self.decoder, self.config = network.speculator, network.model.decoder, network.config
        self.eot = eot
        self.score: Callable[[Tensor], Tensor] = self.decoder.logits
        self.suppression: Tensor | None = suppression
        self.listed = self.speculator.draft_tokens
        self.score_type = suppression.dtype
        self.stack: Stack | None = None
        """KVSPN, where a guess can be one call."""
        if self.listed is not None:
            if not 0 <= int(self.listed.min()) <= int(self.listed.max()) < self.config.vocab_size:
                raise BadModel(f"speculator.draft_tokens holds tokens outside of 0 … {self.config.vocab_size - 1}")
            self.listed = self.listed[suppression[self.listed] == 0]
            if not len(self.listed):
                raise BadModel("speculator.draft_tokens holds special tokens only: KVSPN could guess nothing")
            self.score, self.suppression = plain_linear(self._listed_rows(self.listed), None), None

    def pack(self, precision: str, make: Make) -> None:
        """Lay out the rows that are scored as :mod:`streamtrans.model.linear` does all others."""
        if self.listed is not None:
            self.score = make(self._listed_rows(self.listed), None, precision)
        if make is make_panels:
            self.stack = kvspn_stack(self.speculator, self.config)

    def _listed_rows(self, listed: Tensor) -> Tensor:
        return self.decoder.embed_tokens.weight[listed].contiguous()

    def guess(self, proposals: Sequence[Propose], caches: Sequence[SlotCache]) -> list[Guess]:
        """Guess what follows each text, in as many passes as the longest guess has tokens."""
        chains = [
            Chain(proposal, cache.length, self.config.max_target_positions, self.eot)
            for proposal, cache in zip(proposals, caches, strict=True)
        ]
        if self.config.speculator_input == "hidden":
            self._continue_states(chains, caches)
        else:
            self._continue_tokens(chains, caches)
        return [Guess(tuple(chain.tokens), tuple(chain.logprobs), chain.candidates) for chain in chains]

    def _continue_states(self, chains: Sequence[Chain], caches: Sequence[SlotCache]) -> None:
        """Guess as Medusa does: the token after the only unread one, from the hidden state before it."""
        states = [
            cache.newest_hidden() if len(chain.unread) == 1 else None
            for chain, cache in zip(chains, caches, strict=True)
        ]
        able = [row for row, state in enumerate(states) if state is not None]
        if not able:
            return
        hidden = torch.stack([state for state in states if state is not None])[:, None]
        if self.stack is not None:
            x = hidden[:, 0].float()
            self.stack.run(x, [self._passage(caches[row], 1) for row in able])
            self._answer([chains[row] for row in able], self.stack.normalise(x))
            return
        batch = SlotBatch([caches[row] for row in able])
        groups, crossings = self._attentions(batch, SlotSight(batch, self.config, 1, None))
        self._answer([chains[row] for row in able], self.speculator(hidden, groups, crossings)[:, 0])

    def _continue_tokens(self, chains: Sequence[Chain], caches: Sequence[SlotCache]) -> None:
        """Guess on and on, each token from the one before."""
        if self.stack is not None:
            self._continue_at_once(self.stack, chains, caches)
            return
        batch = SlotBatch(caches)
        unread = [len(chain.unread) for chain in chains] if self.config.speculator_own_keys else None
        rows = max(unread) if unread else 1
        sight = SlotSight(batch, self.config, rows, unread)
        # The newest token stands in the last column; what is missing on the left is padding, seen by itself only.
        lines = [((self.eot,) * rows + chain.unread)[-rows:] for chain in chains]
        places = [range(chain.newest - rows + 1, chain.newest + 1) for chain in chains]
        device = batch.slots.device
        tokens = torch.tensor(lines, device=device)
        groups, crossings = self._attentions(batch, sight)
        while True:
            positions = torch.tensor([[max(0, place) for place in line] for line in places], device=device)
            hidden = self.speculator(self.decoder.embed(tokens, positions), groups, crossings)[:, -1]
            tokens = self._answer(chains, hidden)[:, None]
            if all(chain.done for chain in chains):
                return
            sight.extend()
            last = self.config.max_target_positions - 1
            places = [range(place := min(line[-1] + 1, last), place + 1) for line in places]

    def _continue_at_once(self, stack: Stack, chains: Sequence[Chain], caches: Sequence[SlotCache]) -> None:
        """Do the same, each guess in one call."""
        shape, own = caches[0].slots.shape, None
        lines: list[Sequence[int]] = [chain.unread[-1:] for chain in chains]
        if self.config.speculator_own_keys:
            lines = [chain.unread for chain in chains]
            room = max(len(chain.unread) for chain in chains) + max(chain.count for chain in chains)
            own = Own(len(self.speculator.blocks), len(chains), shape.heads, room, shape.width)
        places, read = [chain.newest for chain in chains], [0] * len(chains)
        last = self.config.max_target_positions - 1
        while True:
            where = [
                min(place, last)
                for line, newest in zip(lines, places, strict=True)
                for place in range(newest - len(line) + 1, newest + 1)
            ]
            tokens = [token for line in lines for token in line]
            x = self.decoder.embed(*torch.tensor([tokens, where])).float()
            counts = [len(line) for line in lines]
            stack.run(x, [self._passage(*each) for each in zip(caches, counts, read, strict=True)], own=own)
            newest = x if len(x) == len(chains) else x[[end - 1 for end in accumulate(counts)]]
            found = self._answer(chains, stack.normalise(newest)).tolist()
            if all(chain.done for chain in chains):
                return
            read = [before + count for before, count in zip(read, counts, strict=True)]
            lines, places = [(token,) for token in found], [place + 1 for place in places]

    def _passage(self, cache: SlotCache, count: int, read: int = 0) -> Passage:
        window = self.config.speculator_window
        return Passage(cache, count, max(0, cache.end - window) if window else 0, read)

    def _attentions(self, batch: SlotBatch, sight: SlotSight) -> tuple[list[SlotGroup], list[SlotCrossing]]:
        """Return what each block attends to: the base's keys, and the encoder's."""
        blocks, layers = range(self.config.speculator_blocks), self.config.decoder_layers
        return [SlotGroup(sight, block) for block in blocks], [batch.crossing(layers + block) for block in blocks]

    def _answer(self, chains: Sequence[Chain], hidden: Tensor) -> Tensor:
        """Add the best token for each hidden state ``(B, E)`` to its chain; return these tokens ``(B,)``."""
        scores = self.score(hidden).to(self.score_type)
        if self.suppression is not None:
            scores += self.suppression
        return add_best(chains, scores, self.listed)


def add_best(chains: Sequence[Chain], scores: Tensor, listed: Tensor | None = None) -> Tensor:
    """Add the best token of each row ``(B, V)`` to its chain; return these tokens ``(B,)``.

    ``listed`` ``(V,)`` names the tokens that are scored, where not all are.
    """
    best, choice = scores.max(-1)
    logprobs = -(scores - best[:, None]).exp_().sum(-1).log_()
    tokens = choice if listed is None else listed[choice]
    if not chains[0].tokens:
        rows = best_candidates(scores, [chain.width for chain in chains], listed)
        for chain, row in zip(chains, rows, strict=True):
            chain.candidates = row
    for chain, token, logprob in zip(chains, tokens.tolist(), logprobs.tolist(), strict=True):
        chain.add(token, logprob)
    return tokens


class Chain:
    """One text's guesses so far, and when they are enough."""

    def __init__(self, proposal: Propose, read: int, positions: int, eot: int) -> None:
        self.unread = proposal.tokens
        self.newest = read + len(proposal.tokens) - 1
        if not proposal.tokens or proposal.count < 1 or self.newest >= positions:
            raise ValueError(
                f"a proposal needs a newest token (got {len(proposal.tokens)} after {read} read of {positions}"
                f" positions) and a count of 1 or more (got {proposal.count})"
            )
        self.count = min(proposal.count, positions - self.newest)
        self.floor = math.log(proposal.floor) if proposal.floor > 0 else -math.inf
        self.eot = eot
        self.width = proposal.width
        self.candidates: Candidates = ()
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.done = False

    def add(self, token: int, logprob: float) -> None:
        """Take the next guess, unless there are enough."""
        if not math.isfinite(logprob):  # a network that can't tell guesses nothing
            self.done = True
        if self.done:
            return
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.done = len(self.tokens) >= self.count or token == self.eot or sum(self.logprobs) < self.floor


def best_candidates(scores: Tensor, widths: Sequence[int], listed: Tensor | None = None) -> list[Candidates]:
    """Return the best tokens of each row ``(R, V)``, as many as its width says, best first and never a masked one.

    Among those returned the lower of two equals comes first. ``listed`` ``(V,)`` names the tokens that are scored,
    where not all are.
    """
    widest = min(max(widths), scores.shape[-1])
    if not widest:
        return [()] * len(widths)
    best, tokens = scores.topk(widest)
    logprobs = (best - scores.logsumexp(-1, keepdim=True)).tolist()
    lines = (tokens if listed is None else listed[tokens]).tolist()
    rows = []
    for width, line, row in zip(widths, lines, logprobs, strict=True):
        pairs = sorted(zip(line, row, strict=True), key=lambda pair: (-pair[1], pair[0]))
        rows.append(tuple(pair for pair in pairs[:width] if pair[1] > -math.inf))
    return rows


class Reads(Protocol):
    """Which of the base's keys a speculative network reads."""

    @property
    def speculator_window(self) -> int:
        """Of the newest so many positions; 0: of all."""
        ...

    @property
    def speculator_reads(self) -> tuple[range, ...]:
        """Per block, of which layers."""
        ...


class SlotSight:
    """What the queries of a chain see, the same for all blocks.

    Of the base, the positions read so far, or the newest ``speculator_window`` of them. Of KVSPN's own keys, where
    ``unread`` counts the tokens that have such, those up to the query: the last ``unread[b]`` of ``rows`` columns
    are real at first, and :meth:`extend` adds one.
    """

    def __init__(self, batch: SlotBatch, config: Reads, rows: int, unread: Sequence[int] | None) -> None:
        self.batch, self.config, self.own = batch, config, unread is not None
        slots, ends = batch.slots, batch.lengths
        window, layers = config.speculator_window, len(config.speculator_reads[0])
        starts = [max(0, end - window) if window else 0 for end in ends]
        self.start, self.end = min(starts), max(ends)
        self.even = len(set(ends)) == 1 and (unread is None or len(set(unread)) == 1)
        self.blind: Tensor | None = None
        self.bias: Tensor | None = None
        if self.even and rows == 1:
            return
        times = torch.arange(self.start, self.end, device=slots.device)
        first, last = torch.tensor([starts, ends], device=slots.device)[:, :, None]
        seen = (times >= first) & (times < last)
        if unread is None and not all(ends):
            # A query that sees nothing looks everywhere instead, for a softmax over nothing is NaN.
            self.blind = (last == 0)[:, None, None]
            seen |= last == 0
        seen = seen.repeat_interleave(layers, dim=1)[:, None, None]
        if unread is not None:
            columns = torch.arange(rows, device=slots.device)
            real = columns >= rows - torch.tensor(unread, device=slots.device)[:, None, None, None]
            chain = (columns <= columns[:, None]) & (real | (columns == columns[:, None]))
            seen = torch.cat([seen.expand(-1, -1, rows, -1), chain], -1)
        self.bias = bias(seen, slots.dtype)

    def extend(self) -> None:
        """Go on by one guess: it sees what the newest token saw, and itself."""
        if self.own and self.bias is not None:
            self.bias = None if self.even else F.pad(self.bias[:, :, -1:], (0, 1))


class SlotGroup:
    """One block's attention for the length of a chain: the base's keys of its layers, then KVSPN's own."""

    def __init__(self, sight: SlotSight, number: int) -> None:
        self.sight = sight
        slots = sight.batch.slots
        layers = sight.config.speculator_reads[number]
        self.keys, self.values = (
            sight.batch.pick(tensor.narrow(2, sight.start, sight.end - sight.start))
            .narrow(3, layers.start - number * slots.group, len(layers))
            .flatten(2, 3)
            for tensor in (slots.keys[number], slots.values[number])
        )
        self.own: tuple[Tensor, Tensor] | None = None

    def attend(self, queries: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Attend ``(B, H, T, D)`` to all that this chain sees, and remember its own keys and values."""
        sight = self.sight
        if own is not None and sight.own:
            if self.own is not None:
                own = torch.cat([self.own[0], own[0]], 2), torch.cat([self.own[1], own[1]], 2)
            self.own = own
            return self._attend_both(queries, *own)
        if not self.keys.shape[2]:
            return torch.zeros_like(queries)
        answer = attend(queries, self.keys, self.values, sight.bias)
        return answer if sight.blind is None else answer.masked_fill(sight.blind, 0.0)

    def _attend_both(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the base's keys and to ours without laying them together: the base's may be many."""
        queries = queries * queries.shape[-1] ** -0.5
        scores = torch.cat([queries @ self.keys.transpose(-1, -2), queries @ keys.transpose(-1, -2)], -1)
        if self.sight.bias is not None:
            scores = scores + self.sight.bias
        weights, past = scores.softmax(-1), self.keys.shape[2]
        return weights[..., :past] @ self.values + weights[..., past:] @ values
