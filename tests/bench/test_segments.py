from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.bench.mixtures import Bounds, Mixture, cut, join, made_noise, read_bounds, spoil
from streamtrans.bench.segments import CHUNKS_MS, Found, compare, figures, measure, segment
from streamtrans.core import BadConfig, samples
from streamtrans.segment import EndpointRules
from streamtrans.vad import EnergyConfig, EnergyVad, load_vad

TABLE = Path(__file__).parents[2] / "benchmarks" / "speech_bounds.tsv"
SPEECH = Path(__file__).parents[3] / "shared" / "data" / "speech"
VADS = {name: load_vad(name) for name in ("energy", "webrtc")}


def utterance(seed: int) -> np.ndarray:
    """Syllables of a buzzing voice with hisses between them, swelling like speech: 0.8 to 3 s, no pause of 100 ms."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(4, 12)):
        time = np.arange(samples(float(rng.uniform(120, 260)))) / 16_000
        pitch = rng.uniform(90, 220)
        formants = rng.uniform((300, 900), (900, 2400))
        voice = sum(
            np.sin(2 * np.pi * pitch * k * time) * sum(np.exp(-(((pitch * k - f) / 200) ** 2)) for f in formants)
            for k in range(1, 25)
        )
        parts.append(voice * np.sin(np.pi * np.arange(len(time)) / len(time)) ** 0.5)
        hiss = np.diff(rng.standard_normal(samples(float(rng.uniform(30, 80)))), prepend=0.0)
        parts.append(0.1 * np.abs(voice).max() * hiss)
    sound = np.concatenate(parts[:-1])
    return (0.05 * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


@lru_cache(maxsize=64)
def mixture(seed: int, snr_db: float | None = None, kind: str = "white") -> Mixture:
    joined = join([utterance(10 * seed + i) for i in range(4)], seed)
    if snr_db is None:
        return joined
    return spoil(joined, made_noise(kind, len(joined.audio), seed), snr_db)


def test_the_truth_is_where_the_sound_is() -> None:
    joined = mixture(1)
    assert len(joined.truth) == 4
    heard = np.abs(joined.audio) > 0
    for start, end in joined.truth:
        assert heard[start : start + 80].any()
        assert heard[end - 80 : end].any()
    gaps = [0, *(edge for span in joined.truth for edge in span), len(joined.audio)]
    for start, end in zip(gaps[::2], gaps[1::2], strict=True):
        assert not heard[start:end].any()
        assert samples(700) - 1 <= end - start <= samples(3000)


def test_equal_seeds_join_equally() -> None:
    first, again, other = mixture(2), mixture(2), mixture(3)
    assert np.array_equal(first.audio, again.audio)
    assert first.truth == again.truth != other.truth


@pytest.mark.parametrize("snr_db", [20.0, 5.0, 0.0])
def test_noise_is_as_loud_as_asked(snr_db: float) -> None:
    clean, noisy = mixture(4), mixture(4, snr_db, "pink")
    noise = noisy.audio - clean.audio
    speech = np.concatenate([clean.audio[start:end] for start, end in clean.truth])
    ratio = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
    assert ratio == pytest.approx(snr_db, abs=0.3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 11),
    condition=st.sampled_from([(None, "white"), (20.0, "white"), (10.0, "white"), (20.0, "pink"), (10.0, "pink")]),
    chunk_ms=st.sampled_from(CHUNKS_MS),
)
def test_law_made_speech_is_found_within_200_ms_by_energy(
    seed: int, condition: tuple[float | None, str], chunk_ms: int | None
) -> None:
    made = mixture(seed, *condition)
    # a detector that has heard nothing yet takes noise for speech: let it hear some, as in any call
    lead = samples(8_000)
    before = made.audio[: made.truth[0][0]]
    audio = np.concatenate([np.resize(before, lead), made.audio])
    shifted = Mixture(audio, tuple((start + lead, end + lead) for start, end in made.truth))
    # pink noise moves the level of its lowest band by more than the default margin once in a while
    found = segment(EnergyVad(EnergyConfig(margin_db=7.0)), audio, chunk_ms=chunk_ms, seed=seed)
    late = tuple(span for span in found.speech if span[1] > lead)
    outcome = compare(shifted, Found(found.segments, late, found.probabilities, found.window))
    assert (outcome.missed, outcome.false, outcome.split, outcome.merged) == (0, 0, 0, 0)
    assert max(np.abs(outcome.starts_ms)) <= 200
    assert max(np.abs(outcome.ends_ms)) <= 200


def test_what_is_compared_is_speech_without_pre_roll_and_padding() -> None:
    truth = ((16_000, 32_000),)
    audio = np.zeros(64_000, np.float32)
    audio[16_000:32_000] = 0.3 * np.sin(np.arange(16_000))
    found = segment(EnergyVad(), audio)
    [(start, end)] = found.segments
    assert start < 16_000 - samples(150)
    assert end > 32_000 + samples(100)
    outcome = compare(Mixture(audio, truth), found)
    assert abs(outcome.starts_ms[0]) <= 30
    assert abs(outcome.ends_ms[0]) <= 60


def test_cuts_for_length_are_no_boundaries_of_speech() -> None:
    audio = np.zeros(16_000 * 12, np.float32)
    audio[16_000 : 16_000 * 10] = 0.3 * np.sin(np.arange(16_000 * 9))
    found = segment(EnergyVad(), audio, EndpointRules(max_segment_ms=3_000, cut_search_ms=1_000))
    assert len(found.segments) >= 3
    assert len(found.speech) == 1


def test_every_kind_of_mistake_is_counted() -> None:
    truth = ((1_600, 3_200), (8_000, 16_000), (20_000, 24_000), (26_000, 30_000))
    audio = np.zeros(40_000, np.float32)
    speech = ((8_160, 10_000), (12_000, 15_840), (20_000, 30_000), (33_000, 34_600))
    outcome = compare(Mixture(audio, truth), Found(speech, speech, (0.0,) * 83, 480))
    assert (outcome.truths, outcome.found) == (4, 4)
    assert (outcome.missed, outcome.false, outcome.split, outcome.merged) == (1, 1, 1, 1)
    assert outcome.starts_ms == (10.0, 0.0, -375.0)
    assert outcome.ends_ms == (-10.0, 375.0, 0.0)
    assert outcome.lost == 1_600 + 160 + 2_000 + 160
    assert outcome.alarm == 2_000 + 1_600
    assert (outcome.windows_lost, outcome.windows_alarm) == (1.0, 0.0)
    summed = figures([outcome])
    assert summed["within"] == 0.5  # of eight boundaries, four are near
    assert (summed["start_worst_ms"], summed["end_worst_ms"]) == (-375, 375)


def test_nothing_found_is_reported_and_not_crashed_on() -> None:
    truth = ((1_600, 3_200),)
    outcome = compare(Mixture(np.zeros(8_000, np.float32), truth), Found((), (), (0.0,) * 17, 480))
    summed = figures([outcome])
    assert (summed["within"], summed["missed"], summed["start_median_ms"]) == (0.0, 1, None)


def test_a_table_of_figures_per_detector_and_condition() -> None:
    table = measure(VADS, {"clean": [mixture(5)], "white 20 dB": [mixture(5, 20.0)]})
    assert set(table) == {"energy", "webrtc"}
    for conditions in table.values():
        assert list(conditions) == ["clean", "white 20 dB"]
        assert all(each["chunks_differ"] == 0 for each in conditions.values())
        assert conditions["clean"]["within"] == 1.0


def test_the_bundled_table_is_sound() -> None:
    bounds = read_bounds(TABLE)
    assert len(bounds) > 50
    for before, after in pairwise(bounds):
        if before.file == after.file:
            assert after.start_ms - before.end_ms >= 280  # else they would be one stretch


@pytest.mark.shared
def test_real_speech_in_noise_is_found() -> None:
    chosen = [each for each in read_bounds(TABLE) if each.file.startswith(("cheetah", "libri", "jfk", "wenet"))]
    made = join(cut(SPEECH, chosen), 0)
    noisy = spoil(made, made_noise("pink", len(made.audio), 0), 10.0)
    for each in (made, noisy):
        summed = figures([compare(each, segment(load_vad("silero"), each.audio))])
        assert summed["within"] >= 0.95
        assert (summed["missed"], summed["false"], summed["merged"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line that is no remark must be 'file"),
        ("file\tstart_ms\tend_ms\n", "the table has no stretches"),
        ("# a remark\nfile\tstart_ms\tend_ms\na.wav\t10\t5\n", r"bounds.tsv:3: 'a.wav\\t10\\t5' is no stretch"),
        ("file\tstart_ms\tend_ms\na.wav\t10\n", "bounds.tsv:2: .* is no stretch"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bounds.tsv"
    path.write_text(text)
    with pytest.raises(BadConfig, match=message):
        read_bounds(path)


def test_a_missing_table_and_a_stretch_beyond_the_end_are_refused(tmp_path: Path) -> None:
    import soundfile

    with pytest.raises(BadConfig, match="there is no such table"):
        read_bounds(tmp_path / "none.tsv")
    soundfile.write(tmp_path / "a.wav", np.zeros(1_600, np.float32), 16_000)
    with pytest.raises(BadConfig, match=r"a.wav has 100 ms; the stretch up to 150 ms isn't in it"):
        cut(tmp_path, [Bounds("a.wav", 0, 150)])
