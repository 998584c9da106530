"""Whole texts and whole utterances read at once: packing, blocks of the encoder, chains of KVSPN."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadModel
from streamtrans.model.config import NetworkConfig
from streamtrans.model.layers import Blocks, rotate, rotations
from streamtrans.model.network import Network, Texts

SHAPE = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_layers": 4,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 50,
    "num_mel_bins": 20,
    "max_source_positions": 100,
    "max_target_positions": 48,
    "speculator_blocks": 2,
}
LENGTHS = (5, 9, 1, 7)


def make(seed: int = 0, **keys: object) -> Network:
    torch.manual_seed(seed)
    return Network(NetworkConfig(**{**SHAPE, **keys})).double().eval().requires_grad_(False)  # type: ignore[arg-type]


def batch(lengths: tuple[int, ...] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(2, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return tokens, real


def test_spread_and_collect_are_each_others_inverse() -> None:
    tokens, real = batch()
    texts = Texts(tokens, real)
    rows = torch.randn(1, 2, int(real.sum()), 3)
    grid = texts.spread(rows)
    assert grid.shape == (4, 2, 9, 3)
    assert not grid.transpose(1, 2)[~real].any()
    assert torch.equal(texts.collect(grid), rows)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple), chain=st.integers(1, 4))
def test_a_text_among_others_scores_as_it_does_alone(lengths: tuple[int, ...], chain: int) -> None:
    network = make(speculator_own_keys=True)
    tokens, real = batch(lengths)
    features = torch.randn(len(lengths), 6, 24, dtype=torch.float64)
    chains = torch.arange(max(lengths)) // chain * chain
    together = network.read_targets(Texts(tokens, real), features, None, chains=chains)
    at = 0
    for row, length in enumerate(lengths):
        one = Texts(tokens[row : row + 1, :length], real[row : row + 1, :length])
        alone = network.read_targets(one, features[row : row + 1], None, chains=chains[:length])
        for mine, theirs in zip(together, alone, strict=True):
            assert mine is not None
            assert theirs is not None
            torch.testing.assert_close(mine[:, at : at + length], theirs, atol=1e-9, rtol=0)
        at += length


def test_several_texts_share_an_utterance() -> None:
    network = make()
    tokens, real = batch((5, 9, 3, 7))
    features = torch.randn(2, 6, 24, dtype=torch.float64)
    shared, _ = network.read_targets(Texts(tokens, real), features, None)
    each, _ = network.read_targets(Texts(tokens, real), features.repeat_interleave(2, 0), None)
    torch.testing.assert_close(shared, each, atol=1e-9, rtol=0)


CHAINS = (0, 1, 2, 3, 3, 3, 3, 7)


def noticing(network: Network, changed_at: int, chains: tuple[int, ...] = CHAINS) -> list[bool]:
    """Say at which of eight positions KVSPN notices that one token is another."""
    tokens, real = batch((8,))
    features = torch.randn(1, 6, 24, dtype=torch.float64)
    changed = tokens.clone()
    changed[0, changed_at] = (tokens[0, changed_at] + 1) % 48 + 2
    starts = torch.tensor(chains)
    one, two = (network.read_targets(Texts(each, real), features, None, chains=starts)[1] for each in (tokens, changed))
    assert one is not None
    assert two is not None
    return ((one - two).abs().amax(-1)[0] > 1e-12).tolist()


def test_kvspn_sees_neither_the_future_nor_unread_keys() -> None:
    # Without keys of its own the chain 3…6 is a hole: 5 and 6 read their own token and keys below 3 only.
    assert noticing(make(), 4) == [False] * 4 + [True, False, False, True]
    # A hidden state, though, has read all tokens up to its own.
    assert noticing(make(speculator_input="hidden"), 4) == [False] * 4 + [True] * 4


def test_own_keys_fill_the_hole() -> None:
    assert noticing(make(speculator_own_keys=True), 4) == [False] * 4 + [True] * 4


def test_the_window_hides_old_keys_and_top_reads_one_layer_each() -> None:
    # One decoder layer, so that no deeper key knows of older tokens.
    network = make(decoder_layers=1, speculator_blocks=1, speculator_window=2)
    assert noticing(network, 0, tuple(range(8))) == [True, True, True] + [False] * 5
    assert NetworkConfig(**{**SHAPE, "speculator_keys": "top"}).speculator_reads == (range(1, 2), range(3, 4))


def test_wrong_values_are_named() -> None:
    with pytest.raises(BadModel, match="speculator_keys is 'all'"):
        NetworkConfig(**{**SHAPE, "speculator_keys": "all"})
    with pytest.raises(BadModel, match="speculator_input is 'text'"):
        NetworkConfig(**{**SHAPE, "speculator_input": "text"})


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 6), left=st.integers(0, 9), known=st.integers(1, 18))
def test_a_block_does_not_hear_what_comes_after_it(size: int, left: int, known: int) -> None:
    """The features of whole blocks stay when later sound changes, but for the convolutions' look-ahead of one frame."""
    network = make(encoder_rotary=True)
    mel = torch.randn(1, 20, 40, dtype=torch.float64)
    other = mel.clone()
    other[..., 2 * known + 2 :] += 1.0  # a frame reads mel frames up to 2 after its first
    blocks = Blocks(size, left)
    one, two = (network.model.encoder(each, None, blocks)[0] for each in (mel, other))
    whole = known // size * size
    torch.testing.assert_close(one[:, :whole], two[:, :whole], atol=1e-12, rtol=0)
    assert not torch.allclose(one[:, -1], two[:, -1])


def test_one_block_of_everything_is_full_context() -> None:
    network = make(encoder_rotary=True)
    mel = torch.randn(2, 20, 30, dtype=torch.float64)
    frames = torch.tensor([30, 21])
    full, blocked = (network.model.encoder(mel, frames, blocks)[0] for blocks in (None, Blocks(99, 0)))
    torch.testing.assert_close(full, blocked, atol=1e-12, rtol=0)


def test_rotary_scores_depend_on_distance_alone() -> None:
    query, key = torch.randn(1, 1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 1, 8, dtype=torch.float64)

    def score(here: int, there: int) -> float:
        turned = [
            rotate(vector, rotations(torch.tensor([place]), 8, torch.float64))
            for vector, place in ((query, here), (key, there))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(3, 10) == pytest.approx(score(45_003, 45_010), abs=1e-8)
    assert score(3, 10) != pytest.approx(score(3, 11), abs=1e-3)
