"""The race: weights in everybody's form, whoever is there reading the same, delays that follow from costs."""

import json
import shutil
import struct

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from streamtrans.bench.race import Race, Recording, race_tables
from streamtrans.bench.racing import ENTRANTS, Entrant
from streamtrans.bench.racing.convert import as_stock, converted, form
from streamtrans.bench.racing.ggml import write_ggml
from streamtrans.bench.racing.loops import without_loops
from streamtrans.bench.racing.ours import Ours
from streamtrans.bench.racing.pace import paced
from streamtrans.bench.racing.running import Read
from streamtrans.bench.racing.theirs import log_mel
from streamtrans.cli.app import app
from streamtrans.core import BadConfig, BadModel
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.manifest import Talk
from streamtrans.model.config import NetworkConfig
from streamtrans.model.features import FeatureConfig, LogMel, mel_filters
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer
from streamtrans.text.density import tokens_per_second
from tests.published import PLAIN, PUBLISHED, write_vocabulary

WORDS = range(300, 2_000)
"""Tokens that the model writes: words without a merge, which nobody suppresses."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A stock Whisper's folder with random weights: it writes words until its budget is spent."""
    folder = tmp_path_factory.mktemp("stock")
    shape = NetworkConfig(
        d_model=64,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=256,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=256,
        vocab_size=51_865,
        num_mel_bins=80,
    )
    torch.manual_seed(3)
    network = Network(shape)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
        rows = network.model.decoder.embed_tokens.weight
        chosen = rows[list(WORDS)].clone()
        rows.zero_()
        rows[list(WORDS)] = chosen
    save_file(
        {key: tensor.contiguous() for key, tensor in network.state_dict().items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    numbers = write_vocabulary(folder, PUBLISHED["whisper-base"])
    eot = numbers["<|endoftext|>"]
    marks = {"eos_token_id": eot, "bos_token_id": eot, "pad_token_id": eot}
    marks["decoder_start_token_id"] = numbers["<|startoftranscript|>"]
    said = {key: value for key, value in shape.asdict().items() if key in PLAIN}
    said |= {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps({**said, **marks, "activation_function": "gelu"}))
    tasks = {"task_to_id": {name: numbers[f"<|{name}|>"] for name in ("transcribe", "translate")}}
    codes = {f"<|{code}|>": numbers[f"<|{code}|>"] for code in ("en", "de", "fr")}
    suppressed = {"suppress_tokens": [1, 2, 7], "begin_suppress_tokens": [220, eot]}
    generation = {**marks, **tasks, **suppressed, "lang_to_id": codes, "is_multilingual": True, "max_length": 448}
    generation |= {"no_timestamps_token_id": numbers["<|notimestamps|>"], "alignment_heads": [[1, 0]]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    features = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "n_fft": 400}
    features |= {"hop_length": 160, "sampling_rate": 16_000, "chunk_length": 30}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "WhisperTokenizerFast", **names}))
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, stock):
    """Two recordings in which the detector finds speech: the demo's first seconds."""
    from streamtrans.audio import read_audio
    from streamtrans.bench.realtime import DEMO

    folder = tmp_path_factory.mktemp("spoken")
    speech = read_audio(DEMO)
    lines = ["audio\tlanguage\ten"]
    for number, (start, end) in enumerate(((0, 4), (4, 7))):
        soundfile.write(folder / f"{number}.wav", speech[start * 16_000 : end * 16_000], 16_000)
        lines.append(f"{number}.wav\ten\tplease turn off the lights")
    path = folder / "spoken.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def invoke(*arguments):
    done = CliRunner().invoke(app, ["bench", "race", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def raced(stock, manifest, folder, *who, live_rows=0):
    """Let them race; return the figures and what was printed."""
    few = ("--weights", stock, "--rows", 1, "--live-rows", live_rows, "--step", 2, "--threads", 1)
    printed = invoke(manifest, *few, "--entrants", ",".join(who), "--results", folder)
    figures = json.loads((folder / "race.json").read_text())["figures"]
    assert figures["missing"].keys() | figures["offline"].keys() == set(who)
    return figures, printed


@pytest.mark.slow
def test_whoever_is_there_writes_the_same_text(stock, manifest, tmp_path):
    who = ("ours float32 padded", "transformers float32 padded", "whisper.cpp float16 padded")
    figures, printed = raced(stock, manifest, tmp_path, *who, "openvino float32 padded", live_rows=1)
    assert all(why.endswith("isn't installed") for why in figures["missing"].values())
    assert figures["recordings"] == 1
    for kind in ("offline", "live"):
        assert all(each["texts"] == figures[kind][who[0]]["texts"] for each in figures[kind].values())
        assert all(each["same_text"] == 1 for each in figures[kind].values())
        assert all(each["error_rate"]["en"] > 0 for each in figures[kind].values())
        assert figures[kind][who[0]]["ratio"] == 1
    assert all(each["real_time_factor"] > 0 for each in figures["offline"].values())
    assert all(each["first_words_ms"] >= 2_000 for each in figures["live"].values())
    assert all(each["peak_rss_mb"] >= each["rss_mb"] > 0 for each in figures["memory"].values())
    assert "offline; " in printed
    assert f"| {who[0]} |" in (tmp_path / "race.md").read_text()


@pytest.mark.slow
def test_unpadded_faster_whisper_writes_our_text(stock, manifest, tmp_path):
    """Padded it hears other frames behind the audio's end: zeros in the place of silence."""
    figures, _ = raced(stock, manifest, tmp_path, "ours float32 unpadded", "faster-whisper float32 unpadded")
    assert all(each["same_text"] == 1 for each in figures["offline"].values())
    assert figures["live"] == {}


@pytest.mark.slow
def test_who_is_not_installed_is_left_out_and_said(stock, manifest, tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    (nowhere / "pywhispercpp.py").write_text("raise ModuleNotFoundError('gone', name='pywhispercpp')\n")
    monkeypatch.setenv("PYTHONPATH", str(nowhere), prepend=":")
    gone = "whisper.cpp q8_0 unpadded"
    figures, printed = raced(
        stock, manifest, tmp_path, "ours int8 unpadded", "openvino int8 unpadded", gone, "beside int8 unpadded"
    )
    assert figures["missing"][gone] == "pywhispercpp isn't installed"
    assert "--beside" in figures["missing"]["beside int8 unpadded"]
    assert f"{gone}: pywhispercpp isn't installed" in printed
    assert gone not in figures["offline"]


def test_a_silence_behind_speech_that_grows_is_no_part_of_it(stock):
    """What is read with a silence behind is what is read so afresh, and the last reading is its draft all the same."""
    name = "ours float32 +1s"
    going, speech = Ours(Entrant.named(name, str(stock), 1)), np.random.default_rng(3).normal(0, 0.1, 32_000)
    quiet = np.zeros(16_000, np.float32)
    for end in (8_000, 16_000, 32_000):
        audio = np.concatenate([speech[:end].astype(np.float32), quiet])
        fresh = Ours(Entrant.named(name, str(stock), 1))
        assert going.read(audio, "en", 50) == fresh.read(audio, "en", 50)
    assert going.engine.stats.decode.drafted > 0
    assert Entrant.named(name, "", 1).tail == 16_000
    assert all(Entrant.named(f"ours int8 {audio}", "", 1).tail == 0 for audio in ("padded", "unpadded"))


def test_programs_of_others_read_weights_beside_as_stock_ones(stock, tmp_path):
    beside = tmp_path / "beside"
    beside.mkdir()
    tensors = {key: tensor + 1 for key, tensor in load_file(stock / "model.safetensors").items()}
    save_file(tensors, beside / "model.safetensors")
    made = as_stock(beside, stock, tmp_path / "made")
    found = load_file(made / "model.safetensors")
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert (made / "config.json").read_text() == (stock / "config.json").read_text()
    save_file({**tensors, "model.decoder.embed_tokens.weight": torch.ones(4, 64)}, beside / "model.safetensors")
    assert "other tensors than stock" in as_stock(beside, stock, tmp_path / "again")
    race = Race(manifest=tmp_path, weights=stock, beside=beside)
    assert "other tensors" in race._weights("faster-whisper-beside int8 +1s", tmp_path / "once more")
    assert race._weights("beside int8 +1s", tmp_path) == beside


def test_loops_are_left_out_of_texts_and_what_people_repeat_is_not(stock):
    tokenizer = Tokenizer.load(stock)
    loop = "press 1 to call " * 9
    assert without_loops(loop, tokenizer, 1_000).split() == ["press", "1", "to", "call"]
    once = "no, no, no, I will not press 1"
    assert without_loops(once, tokenizer, 1_000) == once


def test_ggml_holds_every_weight_under_its_name(stock, tmp_path):
    weights = Network(NetworkConfig.of(json.loads((stock / "config.json").read_text()))).state_dict()
    for precision, error in (("float16", 1e-3), ("q8_0", 1e-2)):
        write_ggml(stock, tmp_path / precision, precision)
        header, words, tensors = _read_ggml(tmp_path / precision)
        assert header == [51_865, 1_500, 64, 2, 1, 448, 64, 2, 2, 80, {"float16": 1, "q8_0": 2_007}[precision]]
        assert len(words) == 50_257
        assert words[ord("a") - 33] == b"a"
        assert len(tensors) == len(weights)
        from safetensors.numpy import load_file

        kept = load_file(stock / "model.safetensors")
        for name, key in (
            ("encoder.conv1.weight", "model.encoder.conv1.weight"),
            ("encoder.blocks.0.attn.query.weight", "model.encoder.layers.0.self_attn.q_proj.weight"),
            ("decoder.blocks.1.cross_attn.value.bias", "model.decoder.layers.1.encoder_attn.v_proj.bias"),
            ("decoder.blocks.1.mlp.2.weight", "model.decoder.layers.1.fc2.weight"),
            ("decoder.token_embedding.weight", "model.decoder.embed_tokens.weight"),
            ("decoder.ln.weight", "model.decoder.layer_norm.weight"),
        ):
            found = tensors[name]
            np.testing.assert_allclose(found.reshape(kept[key].shape), kept[key], atol=error * np.abs(kept[key]).max())


def _read_ggml(path):
    data, at = path.read_bytes(), 0

    def numbers(count):
        nonlocal at
        found = struct.unpack_from(f"<{count}i", data, at)
        at += 4 * count
        return list(found)

    def take(size):
        nonlocal at
        at += size
        return data[at - size : at]

    assert numbers(1) == [0x67676D6C]
    header = numbers(11)
    mels, bins = numbers(2)
    take(4 * mels * bins)
    words = [take(numbers(1)[0]) for _ in range(numbers(1)[0])]
    tensors = {}
    while at < len(data):
        dims, length, kind = numbers(3)
        shape = numbers(dims)[::-1]
        name = take(length).decode()
        count = int(np.prod(shape))
        if kind == 8:
            blocks = np.frombuffer(take(count // 32 * 34), [("scale", "<f2"), ("whole", "i1", 32)])
            values = blocks["scale"].astype(np.float32)[:, None] * blocks["whole"]
        else:
            values = np.frombuffer(take(count * (4 if kind == 0 else 2)), "<f4" if kind == 0 else "<f2")
        tensors[name] = values.astype(np.float32).reshape(shape)
    return header, words, tensors


def test_what_whisper_cpp_cant_hold_is_refused(stock, tmp_path):
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    (narrow / "tokenizer.json").write_text((stock / "tokenizer.json").read_text())
    config = json.loads((stock / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**config, "decoder_ffn_dim": 64}))
    with pytest.raises(BadConfig, match="four times as wide"):
        write_ggml(narrow, tmp_path / "file", "float16")
    (narrow / "config.json").write_text(json.dumps(config))
    save_file({"model.decoder.embed_tokens.weight": torch.ones(4, 48)}, narrow / "model.safetensors")
    with pytest.raises(BadConfig, match=r"decoder.token_embedding.weight has rows of 48 weights"):
        write_ggml(narrow, tmp_path / "file", "q8_0")


def test_features_by_numpy_are_ours():
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    ours = LogMel(FeatureConfig())(torch.from_numpy(audio)[None])[0].numpy()
    np.testing.assert_allclose(log_mel(audio, mel_filters(80, 400).float().numpy()), ours, atol=1e-4)


def test_who_is_quick_makes_every_reading():
    run = paced((0.5, 1.0, 1.2), [Read("", 0.1, 0.1), Read("word", 0.2, 0.2), Read("words", 0.1, 0.1)])
    assert run.readings == 3
    assert run.first_words_s == pytest.approx(1.2)
    assert len(run.lags_s) == 12
    assert run.lags_s[4] == pytest.approx(0.1)  # arrived with the end of the first reading's audio
    assert run.lags_s[0] == pytest.approx(0.5)
    assert run.lags_s[11] == pytest.approx(0.1)


def test_who_is_slow_skips_readings_and_lags():
    run = paced((0.5, 1.0, 1.5, 2.0), [Read("a", 1.2, 0), Read("b", 1.2, 0), Read("c", 1.2, 0), Read("d", 1.2, 0)])
    assert run.readings == 3  # the second is replaced by the third
    assert run.first_words_s == pytest.approx(1.7)
    assert max(run.lags_s) == pytest.approx(4.1 - 1.6)
    assert run.lags_s[-1] == pytest.approx(4.1 - 2.0)


def test_segments_are_joined_as_far_as_a_window_goes():
    spans = ((0, 160_000), (170_000, 400_000), (410_000, 500_000), (600_000, 700_000))
    assert Recording(None, np.zeros(700_000, np.float32), spans).windows == [(0, 400_000), (410_000, 700_000)]


def test_names_say_who_reads_what():
    assert len(set(ENTRANTS)) == len(ENTRANTS)
    forms = {form(*name.split()[:2]) for name in ENTRANTS}
    assert forms == {
        *("", "faster-whisper", "whisper.cpp-q8_0", "whisper.cpp-float16", "openvino-int8", "openvino-float32"),
    }


def test_what_cant_race_is_refused_by_name(manifest, stock, tmp_path):
    with pytest.raises(BadConfig, match="--entrants names theirs; use ours bfloat16 padded"):
        Race(manifest=manifest, weights=stock, entrants=("theirs",)).measure()
    with pytest.raises(BadConfig, match="no recording in zh"):
        Race(manifest=manifest, weights=stock, source=("zh",)).measure()
    with pytest.raises(BadConfig, match="nobody can race: beside int8 unpadded: no model of ours"):
        Race(manifest=manifest, weights=stock, entrants=("beside int8 unpadded",)).measure()
    with pytest.raises(BadModel, match=r"can.t be converted for whisper"):
        converted(tmp_path / "nothing", tmp_path, "whisper.cpp-q8_0")


def test_tables_hold_whoever_ran():
    offline = {"real_time_factor": 0.1, "cpu_per_audio_second": 0.2, "ratio": 1, "mean_error_rate": 0.1}
    offline |= {"loops": 2, "same_text": 1}
    figures = {"threads": 1, "offline": {"ours": offline}, "live": {}, "memory": {"ours": {"peak_rss_mb": 300}}}
    [table] = race_tables(figures)
    assert table.rows == [("ours", 0.1, 0.2, 1, 0.1, 2, 1, 300)]


class Here:
    """An entrant in this process, that is given silence as in one of its own."""

    def __init__(self, name, reader):
        self.name, self.reader, self.most = name, reader, []

    def read(self, audio, language, most):
        self.most.append(most)
        behind = Entrant.named(self.name, "", 1).silence(len(audio))
        return Read(self.reader.read(np.pad(audio, (0, behind)), language, most).strip(), 0.1, 0.1)


@pytest.mark.parametrize("name", ["ours float32 unpadded", "ours float32 +5s"])
def test_what_ours_says_in_a_loop_is_counted_as_anybodys(stock, tmp_path, name):
    """Its text is whole, as its limit ended it, and the race cuts it; its own draft has none of it."""
    folder = shutil.copytree(stock, tmp_path / "looping")
    tensors = load_file(folder / "model.safetensors")
    rows = tensors["model.decoder.embed_tokens.weight"]
    rows[300] *= 10
    tensors["model.decoder.layer_norm.weight"].zero_()
    tensors["model.decoder.layer_norm.bias"].copy_(rows[300])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    ours, tokenizer = Ours(Entrant.named(name, str(folder), 1)), Tokenizer.load(folder)
    audio = np.random.default_rng(3).normal(0, 0.1, 32_000).astype(np.float32)
    runner, talk = Here(name, ours), Talk("a", tmp_path / "a.wav", "en", {})
    rate = tokens_per_second(tokenizer, "en")
    read = Recording(talk, audio, ((0, 32_000),), rate, tokenizer).read(runner, 0, 32_000)
    assert read.looped
    assert len(ours.tokens) == 1
    assert read.text == tokenizer.decode(ours.tokens)
    whole = Recording(talk, audio, ((0, 32_000),), rate).read(runner, 0, 32_000)
    tail = Entrant.named(name, "", 1).tail
    assert runner.most == 2 * [EngineConfig().limit(10_000, (), 32_000 + tail, rate)]
    # Whoever is held to it may write as much as ours does.
    assert whole.text.count(tokenizer.decode([300])) == runner.most[0]


def test_fewer_rounds_are_a_loop_where_the_limit_ended_the_text(stock):
    tokenizer = Tokenizer.load(stock)
    text = "press " * 8
    count = len(tokenizer.encode(text))
    assert without_loops(text, tokenizer, count + 9) == text
    assert without_loops(text, tokenizer, count + 8).split() == ["press"]


def test_a_folder_that_others_cant_read_is_refused_by_name(stock, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    race = Race(manifest=tmp_path, weights=stock, beside=wrong)
    with pytest.raises(BadModel, match=r"wrong has no weights .* one model\.safetensors"):
        race._weights("faster-whisper-beside int8 +1s", tmp_path / "made")
    (wrong / "model.safetensors").write_bytes((stock / "model.safetensors").read_bytes()[:1_000])
    with pytest.raises(BadModel, match=r"wrong/model\.safetensors is not a readable safetensors file"):
        as_stock(wrong, stock, tmp_path / "made")
    shutil.copy(stock / "model.safetensors", wrong / "model.safetensors")
    with pytest.raises(BadModel, match=r"wrong has no config\.json, generation_config\.json, preprocessor_config"):
        as_stock(stock, wrong, tmp_path / "made")
