import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from streamtrans.bench.hearing import HearingConfig, measure_hearing
from streamtrans.cli.app import app
from streamtrans.core import BadConfig, BadModel
from streamtrans.evaluate import DevConfig, evaluate_dev
from streamtrans.model.layers import Blocks
from streamtrans.model.loading import load_model
from streamtrans.testing.toy import ToyModel
from tests.checkpoints import make_whisper_m2m


@pytest.fixture(scope="module")
def blocked_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    make_whisper_m2m(folder, encoder_layers=1, encoder_rotary=True, encoder_block=16, encoder_left=20)
    return folder


@pytest.fixture
def blocked(blocked_folder):
    return load_model(blocked_folder, device="cpu", dtype="float32")


def noise(minutes, seed):
    return np.random.default_rng(seed).normal(0, 0.1, minutes * 60 * 16_000).astype(np.float32)


def test_every_block_of_a_run_is_heard_and_timed(blocked):
    done = []
    config = HearingConfig(at=(1,), segment_s=1.5, every=40)
    found = measure_hearing(
        blocked, [noise(1, 0), noise(1, 1)], config, progress=lambda minute, total: done.append((minute, total))
    )
    assert done == [(1, 1)]
    figures = found["1"]
    assert figures["hearings"] == 60 * 16_000 // (16 * 320)
    assert min(figures[f"{name}_ms_per_s"] for name in ("blocks", "segment", "window")) > 0
    assert figures["state_bytes"] < 2_000_000
    assert figures["rss_bytes"] is None or figures["rss_bytes"] > figures["state_bytes"]


def test_the_verb_keeps_what_it_measured(blocked_folder, tmp_path):
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    arguments = ["bench", "hearing", "--minutes", "1", "--streams", "2", "--segment-s", "1.5"]
    done = CliRunner().invoke(app, [*arguments, "--model", str(blocked_folder), "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "streams: 2; by minute of the run" in done.stdout
    figures = json.loads((tmp_path / "hearing.json").read_text())["figures"]
    assert set(figures["streams"]) == {"1", "2"}
    assert (figures["blocks"], figures["left"], figures["segment_s"]) == (16, 20, 1.5)


def test_what_cannot_be_measured_is_refused(blocked):
    with pytest.raises(BadConfig, match="1 minutes of speech are needed"):
        measure_hearing(blocked, [noise(1, 0)[1:]], HearingConfig(at=(1,), segment_s=1.5))
    with pytest.raises(BadConfig, match="segments of 8 s don't fit"):
        measure_hearing(blocked, [noise(1, 0)], HearingConfig(at=(1,)))
    for bad in ({"at": ()}, {"at": (2, 1)}, {"at": (0,)}, {"every": 0}, {"segment_s": 0.0}):
        with pytest.raises(BadConfig):
            HearingConfig(**bad)


def test_an_evaluation_says_in_which_blocks_it_heard(blocked, model, rows, speak):
    config = DevConfig(sources=("en",), targets=("de",), rows=2, recheck=0)
    served = evaluate_dev(blocked, blocked.tokenizer, rows, config, speak=speak)
    assert served.figures()["blocks"] == 16
    whole = evaluate_dev(blocked, blocked.tokenizer, rows, replace(config, blocks=0), speak=speak)
    assert whole.blocks == 0
    assert blocked.blocks is None
    small = evaluate_dev(blocked, blocked.tokenizer, rows, replace(config, blocks=8), speak=speak)
    assert small.blocks == 8
    assert blocked.blocks == Blocks(8, 20)
    with pytest.raises(BadModel, match="can't hear in blocks of 8"):
        evaluate_dev(model, model.tokenizer, rows, replace(config, blocks=8), speak=speak)
    with pytest.raises(BadModel, match="toy has no encoder"):
        evaluate_dev(ToyModel(), model.tokenizer, rows, replace(config, blocks=8), speak=speak)
    with pytest.raises(BadConfig, match="blocks is -1"):
        DevConfig(blocks=-1)
