"""Hearing in blocks: block by block equals all at once, for any chunking; states stay small; nothing is remembered."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import AudioTooLong, BadModel
from streamtrans.model.api import Forward, Heard, Hearing
from streamtrans.model.cache import EncodedSpeech
from streamtrans.model.hearing import EncoderState
from streamtrans.model.layers import Blocks
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from tests.checkpoints import make_whisper, make_whisper_m2m

LONGEST = 32_000


def make(folder: Path, *, hop: int = 160, block: int = 3, left: int = 7) -> TorchSpeechModel:
    make_whisper_m2m(
        folder,
        encoder_rotary=True,
        encoder_block=block,
        encoder_left=left,
        max_source_positions=LONGEST // (2 * hop),
    )
    preprocessor = folder / "preprocessor_config.json"
    preprocessor.write_text(json.dumps({**json.loads(preprocessor.read_text()), "hop_length": hop}))
    return load_model(folder, device="cpu", dtype="float64")


@pytest.fixture(scope="module", params=[160, 320, 80], ids=lambda hop: f"hop {hop}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    return make(tmp_path_factory.mktemp("blocks"), hop=request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    return make(tmp_path_factory.mktemp("plain"), hop=320, block=4, left=10)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.2, samples).astype(np.float32)


def heard_at_once(model: TorchSpeechModel, audio: np.ndarray) -> EncodedSpeech:
    """Encode a whole run with the mask of training."""
    with torch.inference_mode():
        mel = model.log_mel(torch.from_numpy(audio)[None])
        features, _ = model.network.model.encoder(mel, None, model.blocks)
        return model.remember(features, [features.shape[1]])[0]


def heard(found: Heard) -> tuple[EncodedSpeech, EncoderState]:
    assert isinstance(found.memory, EncodedSpeech)
    assert isinstance(found.state, EncoderState)
    return found.memory, found.state


def assert_window(memory: EncodedSpeech, run: EncodedSpeech, first: int) -> None:
    """Compare a memory with the frames from ``first`` on of what was heard at once."""
    last = first + memory.frames
    assert last <= run.frames
    for mine, theirs in zip((*memory.decoder, *memory.speculator), (*run.decoder, *run.speculator), strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys[..., first:last], atol=1e-9, rtol=0)
        torch.testing.assert_close(mine.values, theirs.values[:, first:last], atol=1e-9, rtol=0)


@dataclass
class Stream:
    """A run of speech that began at ``origin`` of its stream; ``known`` samples of it were heard."""

    audio: np.ndarray
    origin: int
    known: int = 0
    start: int = 0
    state: object | None = None

    def ask(self, more: int, cut: bool) -> Hearing:
        if cut or self.known + more - self.start > LONGEST:
            self.start = max(self.start, self.known - more // 2)  # speech heard already may belong to the new segment
        self.known = min(self.known + more, self.start + LONGEST, len(self.audio))
        return Hearing(self.audio[self.start : self.known], self.origin + self.start, self.state)

    def check(self, model: TorchSpeechModel, found: Heard) -> None:
        memory, self.state = heard(found)
        run = heard_at_once(model, self.audio[: self.known])
        first = (found.begin - self.origin) // model.frame_samples
        assert (found.begin - self.origin) % model.frame_samples == 0
        assert first == min(self.start // model.frame_samples, run.frames - 1) or memory.frames == self.most(model)
        assert first + memory.frames == run.frames
        assert_window(memory, run, first)

    @staticmethod
    def most(model: TorchSpeechModel) -> int:
        return model.config.max_source_positions


STEPS = st.tuples(st.sampled_from([1, 60, 200, 399, 640, 801, 1500, 2560, 6400]), st.booleans())


@settings(max_examples=15, deadline=None)
@given(
    chunkings=st.lists(st.lists(STEPS, min_size=1, max_size=7), min_size=1, max_size=3),
    origins=st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
)
def test_block_by_block_equals_all_at_once(
    model: TorchSpeechModel, chunkings: list[list[tuple[int, bool]]], origins: list[int]
) -> None:
    """At every hearing, for any chunking, with cuts in the middle of the run, beside streams at other places."""
    streams = [
        Stream(noise(sum(more for more, _ in steps), seed), origins[seed]) for seed, steps in enumerate(chunkings)
    ]
    for turn in range(max(map(len, chunkings))):
        taking = [(stream, steps[turn]) for stream, steps in zip(streams, chunkings, strict=True) if turn < len(steps)]
        found = model.listen([stream.ask(*step) for stream, step in taking])
        for (stream, _), each in zip(taking, found, strict=True):
            stream.check(model, each)


def test_a_batch_equals_its_rows(model: TorchSpeechModel) -> None:
    audio = noise(20_000)
    states = [model.listen([Hearing(audio[:end])])[0].state for end in (700, 6_000, 19_000)]
    asked = [Hearing(audio, 0, None), *(Hearing(audio[2_000:], 2_000, state) for state in states)]
    for alone, row in zip(asked, model.listen(asked), strict=True):
        mine, theirs = model.listen([alone])[0], row
        assert (mine.begin, mine.encoded) == (theirs.begin, theirs.encoded)
        assert_window(heard(mine)[0], heard(theirs)[0], 0)
        assert heard(mine)[1].nbytes == heard(theirs)[1].nbytes  # nobody holds the neighbours' rows
        for name in ("context", "keys", "values"):
            one, other = (getattr(each.state, name) for each in (mine, theirs))
            torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_what_was_encoded_is_not_encoded_again(plain: TorchSpeechModel) -> None:
    audio, block = noise(30_000), 4 * 640
    assert plain.blocks == Blocks(4, 10)
    first = plain.listen([Hearing(audio[: 9 * block])])[0]
    assert first.encoded == 9 * block
    assert heard(first)[1].frames == 8 * 4  # the ninth has yet to hear what stands at its end
    second = plain.listen([Hearing(audio[: 10 * block], 0, first.state)])[0]
    assert second.encoded == 2 * block
    settled = plain.listen([Hearing(audio[: 10 * block + 320], 0, second.state)])[0]
    assert heard(settled)[1].frames == 10 * 4


def test_only_so_much_is_heard_of_what_came_before(plain: TorchSpeechModel) -> None:
    """Each of the two layers reaches ``left`` frames back from the beginning of its block."""
    audio = noise(LONGEST)
    other = audio.copy()
    other[:2_000] = 0.0
    one, two = (heard(plain.listen([Hearing(sound)])[0])[0] for sound in (audio, other))
    reach = 2_000 // 640 + 1 + 2 * (10 + 4)
    same = [torch.equal(*(each.decoder[0].keys[..., frame] for each in (one, two))) for frame in range(50)]
    assert not any(same[:4])
    assert all(same[reach:])


def test_what_a_stream_holds_stays_small_however_long_it_runs(plain: TorchSpeechModel) -> None:
    audio, block, segment = noise(200 * 2_560), 2_560, 6 * 2_560
    held, state, start = list[int](), None, 0
    for end in range(block, len(audio) + 1, block):
        if end - start > segment:
            start = end - block
        found = plain.listen([Hearing(audio[start:end], start, state)])[0]
        memory, state = heard(found)
        assert memory.frames <= segment // 640 + 1
        assert state.context.shape[-2] <= 10
        assert found.encoded <= 2 * block
        held.append(state.nbytes)
    assert state is not None
    assert state.frames == 199 * 4
    assert max(held[100:]) <= max(held[20:100])


def test_the_same_sound_is_heard_alike_wherever_in_the_run(plain: TorchSpeechModel) -> None:
    """With the same left context a run far along gives what it gave earlier, from the same state at another place."""
    audio = noise(12_000)
    early = heard(plain.listen([Hearing(audio[:8_000])])[0])[1]
    far = 25 * 10**9 // 2_560 * 2_560  # half a year of blocks
    late = EncoderState(
        origin=early.origin - far,
        heard=early.heard,
        frames=early.frames + far // 640,
        kept=early.kept + far // 640,
        samples=early.samples,
        context=early.context,
        keys=early.keys,
        values=early.values,
    )
    one, two = (plain.listen([Hearing(audio, 0, state)])[0] for state in (early, late))
    assert one.begin == two.begin == 0
    for mine, theirs in zip(heard(one)[0].decoder, heard(two)[0].decoder, strict=True):
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.values, theirs.values)


def test_a_repeated_sound_sounds_the_same_once_the_beginning_is_forgotten(plain: TorchSpeechModel) -> None:
    period = noise(8 * 2_560)
    audio = np.tile(period, 6)
    memories, state = [], None
    for turn in range(6):
        end = (turn + 1) * len(period)
        found = plain.listen([Hearing(audio[end - len(period) : end], end - len(period), state)])[0]
        memory, state = heard(found)
        memories.append(memory)
    assert not torch.allclose(memories[0].decoder[0].keys, memories[1].decoder[0].keys)
    assert_window(memories[5], memories[3], 0)


def test_missing_samples_begin_a_run_anew(plain: TorchSpeechModel) -> None:
    audio = noise(20_000)
    _, state = heard(plain.listen([Hearing(audio[:5_000])])[0])
    for start, old in ((5_001, state), (9_000, state), (9_000, None), (9_000, "another model's")):
        found = plain.listen([Hearing(audio[start:], start, old)])[0]
        assert found.begin == heard(found)[1].origin == start
        assert_window(heard(found)[0], heard_at_once(plain, audio[start:]), 0)
    joined = plain.listen([Hearing(audio[5_000:], 5_000, state)])[0]
    assert heard(joined)[1].origin == 0


def test_a_segment_whose_beginning_was_dropped_is_heard_anew(plain: TorchSpeechModel) -> None:
    audio = noise(20_000)
    _, state = heard(plain.listen([Hearing(audio[:8_000])])[0])
    _, state = heard(plain.listen([Hearing(audio[7_000:16_000], 7_000, state)])[0])
    found = plain.listen([Hearing(audio[3_000:], 3_000, state)])[0]
    assert found.begin == 3_000
    assert_window(heard(found)[0], heard_at_once(plain, audio[3_000:]), 0)
    before = plain.listen([Hearing(audio[2_000:], 2_000, plain.listen([Hearing(audio[3_000:], 3_000)])[0].state)])[0]
    assert before.begin == 2_000


@pytest.mark.parametrize("end", [9_000, 14_500, 15_900])
def test_a_segment_may_end_before_what_was_heard(plain: TorchSpeechModel, end: int) -> None:
    """A cut lies in the past: its final reading gets the frames up to it, and the run goes on."""
    audio = noise(24_000)
    _, state = heard(plain.listen([Hearing(audio[:16_000])])[0])
    final = plain.listen([Hearing(audio[:end], 0, state)])[0]
    memory, state = heard(final)
    assert memory.frames == (end // 320 + 1) // 2
    assert_window(memory, heard_at_once(plain, audio[:16_000]), 0)
    after = plain.listen([Hearing(audio[end:], end, state)])[0]
    assert after.begin == end // 640 * 640
    assert_window(heard(after)[0], heard_at_once(plain, audio), end // 640)


def test_a_whole_hearing_is_full_context_and_the_run_goes_on(plain: TorchSpeechModel) -> None:
    audio = noise(24_000)
    _, state = heard(plain.listen([Hearing(audio[:8_000])])[0])
    neighbour = Hearing(audio[4_000:9_000], 4_000)
    whole, other = plain.listen([Hearing(audio[2_000:15_000], 2_000, state, whole=True), neighbour])
    assert whole.begin == 2_000
    assert_window(heard(whole)[0], plain.encode([audio[2_000:15_000]])[0], 0)
    assert_window(heard(other)[0], heard_at_once(plain, audio[4_000:9_000]), 0)
    assert heard(whole)[1].frames == 20
    after = plain.listen([Hearing(audio[14_000:], 14_000, whole.state)])[0]
    assert after.begin == 14_000 // 640 * 640
    assert_window(heard(after)[0], heard_at_once(plain, audio), 14_000 // 640)
    short = plain.listen([Hearing(audio[:900], 0, None, whole=True)])[0]
    assert heard(short)[1].frames == 0
    again = plain.listen([Hearing(audio[:3_000], 0, short.state)])[0]
    assert_window(heard(again)[0], heard_at_once(plain, audio[:3_000]), 0)


def test_the_model_remembers_nothing(plain: TorchSpeechModel) -> None:
    audio = noise(16_000)
    _, state = heard(plain.listen([Hearing(audio[:7_000])])[0])
    kept = copy.deepcopy({name: getattr(state, name) for name in ("samples", "context", "keys", "values")})
    first = plain.listen([Hearing(audio, 0, state)])[0]
    plain.listen([Hearing(noise(16_000, 7), 0, state), Hearing(noise(9_000, 8))])
    second = plain.listen([Hearing(audio, 0, state)])[0]
    assert_window(heard(first)[0], heard(second)[0], 0)
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(state, name), value)


def test_a_memory_never_exceeds_the_slots(plain: TorchSpeechModel) -> None:
    audio = noise(LONGEST + 639)
    _, state = heard(plain.listen([Hearing(audio[:1_000])])[0])
    found = plain.listen([Hearing(audio[639:], 639, state)])[0]
    memory, _ = heard(found)
    assert memory.frames == plain.config.max_source_positions
    cache = plain.allocate(1).open(memory)
    assert plain.step([Forward((1, 2), cache, rows=1)])[0].tokens
    with pytest.raises(AudioTooLong, match="max_segment_ms"):
        plain.listen([Hearing(audio, 0, state)])


def test_single_precision_and_packed_linears_hear_the_same(plain: TorchSpeechModel, tmp_path: Path) -> None:
    make(tmp_path, hop=320, block=4, left=10)
    single = load_model(tmp_path, device="cpu", dtype="float32")
    audio = noise(9_000)
    state = single.listen([Hearing(audio[:5_000])])[0].state
    memory, _ = heard(single.listen([Hearing(audio, 0, state)])[0])
    run = heard_at_once(plain, audio)
    torch.testing.assert_close(memory.decoder[0].values.double(), run.decoder[0].values, atol=1e-4, rtol=1e-3)


def test_others_hear_anew_each_time(tmp_path: Path) -> None:
    make_whisper(
        tmp_path, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
    )  # fmt: skip
    stock = load_model(tmp_path, device="cpu", dtype="float64")
    audio = noise(16_000)
    found = stock.listen([Hearing(audio, 500, "anything"), Hearing(audio[:9_000], 0, whole=True)])
    assert [(each.state, each.begin, each.encoded) for each in found] == [(None, 500, 16_000), (None, 0, 9_000)]
    assert isinstance(found[0].memory, EncodedSpeech)
    assert_window(found[0].memory, stock.encode([audio])[0], 0)
    with pytest.raises(BadModel, match="can't hear in blocks of 4 frames"):
        stock.hear_in(Blocks(4, 10))


def test_wrong_configurations_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="only an encoder with encoder_rotary hears in blocks"):
        make_whisper_m2m(tmp_path, encoder_block=4)
    with pytest.raises(BadModel, match="give frames, 0 or more"):
        make_whisper_m2m(tmp_path, encoder_rotary=True, encoder_block=-1)


def test_windows_without_a_middle_are_refused(tmp_path: Path) -> None:
    make_whisper_m2m(tmp_path, encoder_rotary=True, encoder_block=4, encoder_left=10)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"n_fft": 401}))
    with pytest.raises(BadModel, match="window is 401; an encoder that hears in blocks takes an even number"):
        load_model(tmp_path, device="cpu", dtype="float32")
