"""Heads that align are found where the truth is known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.core import BadConfig
from streamtrans.corpus import Row
from streamtrans.evaluate.alignment import (
    AlignmentConfig,
    _choose,
    _mean,
    _Text,
    _texts,
    _Watch,
    find_heads,
    write_heads,
)
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper_m2m
from tests.tiny_model import TEXTS

FRAME, JOINT = 320, 320 * 40
TOKENS = 6


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A folder of a model that holds two sentences."""
    folder = tmp_path_factory.mktemp("roomy")
    make_whisper_m2m(folder, decoder_layers=2, max_source_positions=500)
    return folder


def watch():
    return _Watch(SimpleNamespace(frame_samples=FRAME, allocate=lambda _: None), 1_600, 1, None)


def text(translated=False):
    """Three tokens, a break and two more, about 100 frames of which the first sentence has 40."""
    sides = np.array([0, 0, 0, -1, 1, 1])
    centres = np.array([10, 20, 30, 40, 60, 80]) * float(FRAME)
    return _Text(np.zeros(100 * FRAME, np.float32), (1, 2, *range(10, 16)), 2, JOINT, sides, centres, translated)


def looking(*frames):
    """Return weights ``(N, S)`` of a head that looks mostly at these frames."""
    return torch.nn.functional.one_hot(torch.tensor(frames), 100) * 0.9 + 0.001


def test_a_head_that_aligns_has_the_best_score_and_a_blind_one_one_half():
    rates = watch().rate(
        text(), torch.stack([looking(10, 20, 30, 40, 60, 80), looking(*[99] * 6), looking(*range(70, 10, -10))])
    )
    best, blind, backwards = _mean([rates])
    assert (best.side, best.order, best.offset_ms) == (1.0, 1.0, 10.0)  # the middle of a frame of 20 ms
    assert (blind.side, blind.order) == (0.4, 0.5)
    assert backwards.order == 0
    assert best.value == 1 > blind.value > backwards.value


def test_the_break_belongs_to_neither_side_and_a_little_late_is_in_time():
    [score] = _mean([watch().rate(text(), looking(10, 20, 44, 99, 36, 80)[None])])
    assert score.side == 1
    [score] = _mean([watch().rate(text(), looking(10, 20, 45, 99, 34, 80)[None])])
    assert score.side == 3 / 5


def test_heads_are_chosen_for_what_they_do_together():
    left = looking(10, 20, 30, 40, 10, 10) * 0.9 + looking(*[99] * 6) * 0.1
    right = looking(90, 90, 90, 90, 60, 80)
    noise = looking(90, 10, 90, 10, 90, 10)
    # Two heads that each see half of it, the first one surer where it is right.
    weights = torch.stack([left, noise, right]) * torch.tensor([1.0, 0.5, 0.6])[:, None, None]
    weights[0, 4:] *= 0.2
    chosen, steps = _choose(watch(), [(text(), weights)], AlignmentConfig(candidates=3))
    assert set(chosen) == {0, 2}
    assert steps[0].value < steps[1].value == 1


def test_a_random_network_is_measured_whole(roomy, speak):
    model = load_model(roomy, device="cpu", dtype="float64")
    rows = [Row(str(number), TEXTS) for number in range(5)]
    say = lambda row, language: speak(row, language).audio  # noqa: E731
    told = []
    report = find_heads(
        model,
        model.tokenizer,
        rows,
        AlignmentConfig(pairs=4),
        say=say,
        progress=lambda n, total: told.append((n, total)),
    )
    assert set(report.alone) == {(layer, head) for layer in range(2) for head in range(2)}
    assert report.texts == 8
    assert 1 <= len(report.chosen) == len(report.steps) <= 4
    assert [score.value for score in report.alone.values()] == sorted(
        (s.value for s in report.alone.values()), reverse=True
    )
    assert told[-1] == (len(told), len(told))
    again = find_heads(model, model.tokenizer, rows, AlignmentConfig(pairs=4), say=say)
    assert again == report
    assert json.loads(json.dumps(report.figures()))["chosen"] == [list(head) for head in report.chosen]


def test_every_pair_is_read_in_the_spoken_language_and_in_another(roomy, speak):
    model = load_model(roomy, device="cpu", dtype="float64")
    rows = [Row(str(number), TEXTS) for number in range(5)]
    say = lambda row, language: speak(row, language).audio  # noqa: E731
    texts = _texts(model, model.tokenizer, rows, AlignmentConfig(pairs=3), say)
    assert [each.translated for each in texts] == [False, True] * 3
    for each in texts:
        words = model.tokenizer.decode(each.tokens[each.start :])
        assert words.count("\n") == 1
        at = [*each.sides].index(-1)
        assert model.tokenizer.decode(each.tokens[each.start : each.start + at]).strip() in TEXTS.values()
        assert each.centres[at] == each.joint
        assert (np.diff(each.centres) > 0).all()


def test_nothing_to_pair_is_refused(roomy, speak):
    model = load_model(roomy, device="cpu", dtype="float64")
    with pytest.raises(BadConfig, match=r"only 0 of 90 pairs of sentences"):
        find_heads(
            model, model.tokenizer, [Row("0", {"en": "one language"})], say=lambda *_: np.ones(9_000, np.float32)
        )
    with pytest.raises(BadConfig, match="fit into 10 s"):
        find_heads(model, model.tokenizer, [Row("0", TEXTS)], say=lambda *_: np.ones(90_000, np.float32))
    with pytest.raises(BadConfig, match="pairs is 1"):
        AlignmentConfig(pairs=1)


def test_the_heads_found_are_those_that_a_model_watches(roomy):
    write_heads(roomy, [(1, 1), (0, 1)])
    assert load_model(roomy, device="cpu").manner.alignment_heads == ((1, 1), (0, 1))


def test_the_verb_finds_heads_and_writes_them(roomy, tmp_path):
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    table = tmp_path / "train.tsv"
    table.write_text(
        "id\ten\tde\n1\tgood morning\tguten morgen\n2\twhat time is it\twie spät ist es\n", encoding="utf-8"
    )
    results = tmp_path / "results"
    arguments = ("align", roomy, "--text", table, "--pairs", 3, "--write", "--results", results)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "right side of the joint" in done.output
    kept = json.loads((results / "alignment.json").read_text(encoding="utf-8"))["figures"]
    assert kept["texts"] == 6
    heads = tuple(tuple(head) for head in kept["chosen"])
    assert load_model(roomy, device="cpu").manner.alignment_heads == heads
