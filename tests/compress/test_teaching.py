"""Teaching: who learns what from whom, resumption, what is saved, and what is refused."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2AudioForConditionalGeneration, WhisperForConditionalGeneration
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.compress import convert
from streamtrans.compress.pruning.stacks import cut
from streamtrans.compress.quantize import quantize
from streamtrans.compress.teaching import Teaching, load_teaching, teach
from streamtrans.compress.teaching.labels import SpeechWriter
from streamtrans.compress.teaching.pupils import NOTHING, Asked, load_pupil
from streamtrans.compress.teaching.trainer import Twins, _Run
from streamtrans.core import BadConfig, BadModel
from streamtrans.evaluate.manifest import read_talks
from streamtrans.evaluate.recordings import evaluate_recordings
from streamtrans.model.loading import load_model
from streamtrans.train.diverged import Diverged
from streamtrans.train.stopping import SIGNALS
from streamtrans.train.stopping import Stopped as StoppedBySignal
from tests.checkpoints import make_qwen2_audio, make_whisper, make_whisper_m2m

SHAPE = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 3,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
}
ROWS = (("en", "turn on the light", "mach das licht an"), ("de", "what is the weather", "wie ist das wetter"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    lines, bare = ["audio\tlanguage\ten\tde"], ["audio\tlanguage"]
    for number, (language, english, german) in enumerate(ROWS * 2):
        noise = np.random.default_rng(number).normal(0, 0.1, 9_000 + 3_000 * number)
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
        lines.append(f"{number}.wav\t{language}\t{english}\t{german}")
        bare.append(f"{number}.wav\t{language}")
    (folder / "speech.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "bare.tsv").write_text("\n".join(bare) + "\n", encoding="utf-8")
    return folder / "speech.tsv"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder, **SHAPE)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    make_qwen2_audio(folder, layers=2)
    return folder


def quietly(*_: object) -> None:
    pass


def settings(base: Path, speech: Path, **more: object) -> Teaching:
    values: dict[str, object] = {"steps": 4, "batch": 2, "together": 2, "warmup": 1, "peak_lr": 1e-2, "save_every": 1}
    values |= {"saved_as": "float32", "rank": 4, "alpha": 8.0, "device": "cpu", **more}
    return Teaching(str(base), (str(speech),), **values)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


# ---- what is scored ----


@pytest.mark.parametrize("learns", ["decoder", "all"])
def test_a_whisper_scores_texts_as_transformers_does(whisper: Path, speech: Path, tmp_path: Path, learns: str) -> None:
    pupil = load_pupil(whisper, settings(whisper, speech), learns, tmp_path)
    talks = read_talks(speech)
    batch = [Asked(talks[0], (("en", "the light"),)), Asked(talks[1], (("de", "licht"), ("en", "what is")))]
    logits = pupil.read(batch).detach()
    stock = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    row = 0
    for asked in batch:
        mel = pupil.model.log_mel(torch.from_numpy(pupil.audio(asked.talk))[None])
        for target, text in asked.texts:
            prompt, tokens = pupil.model.prompt(target, asked.talk.language), pupil.tokens(text)
            with torch.no_grad():
                wanted = stock(mel, decoder_input_ids=torch.tensor([[*prompt, *tokens[:-1]]])).logits[0]
            wanted = wanted[len(prompt) - 1 :]
            torch.testing.assert_close(logits[row : row + len(tokens)], wanted, atol=3e-2, rtol=1e-2)
            row += len(tokens)
    assert row == len(logits)


def test_an_audio_llm_scores_an_answer_as_it_gives_it(qwen: Path, speech: Path, tmp_path: Path) -> None:
    pupil = load_pupil(qwen, settings(qwen, speech), NOTHING, tmp_path)
    talk = read_talks(speech)[0]
    llm = pupil.llm
    answer = llm.answer(llm.question(talk.load(), "en", "de"), 4_000)
    with torch.no_grad():
        scored = llm.score(talk.load(), "en", "de", tuple(answer))
    assert scored.argmax(-1).tolist() == answer


def test_only_what_both_spell_alike_is_taught_by_token(whisper: Path, speech: Path, tmp_path: Path) -> None:
    convert(
        whisper, tmp_path / "cut", decoder_layers=3, text_encoder_layers=0, speculator_blocks=0, languages=("en", "de"),
        vocabulary=290, texts=["the light the light"], prompt="whisper",
    )  # fmt: skip
    teaching = settings(tmp_path / "cut", speech)
    pupil = load_pupil(tmp_path / "cut", teaching, "decoder", tmp_path)
    teacher = load_pupil(whisper, teaching, NOTHING, tmp_path)
    twins = Twins(pupil, teacher)
    alike, unlike = "the light", "what is the weather"
    assert twins.alike(alike)
    assert not twins.alike(unlike)
    talk = read_talks(speech)[0]
    batch = [Asked(talk, (("en", unlike), ("en", alike)))]
    mine, theirs = pupil.read(batch), teacher.read(batch)
    found = twins.divergence(mine, theirs, [unlike, alike])
    # By hand, of the text that both spell alike, over the tokens that both have.
    count = len(pupil.tokens(alike))
    p = mine[-count:][:, twins.mine].log_softmax(-1)
    t = theirs[-count:][:, twins.other].log_softmax(-1)
    torch.testing.assert_close(found, (t.exp() * (t - p)).sum())
    assert float(twins.divergence(mine, theirs, [unlike, unlike]).detach()) == 0


# ---- what is learnt ----


@pytest.mark.parametrize("learns", ["decoder", "all", "lora", "qlora"])
def test_a_whisper_learns_and_loads_everywhere(whisper: Path, speech: Path, tmp_path: Path, learns: str) -> None:
    teaching = settings(whisper, speech, learns=learns, steps=12, saved_as="bfloat16", peak_lr=2e-2)
    losses: list[float] = []
    found = teach(teaching, tmp_path / "made", work=tmp_path / "work", told=quietly)
    losses = [json.loads(line)["texts"] for line in (tmp_path / "work" / "log.jsonl").read_text().splitlines()]
    first = teach(replace(teaching, steps=1), tmp_path / "one", work=tmp_path / "onework", told=quietly)
    assert losses[-1] < first.loss["texts"] - 0.1
    before, after = load_file(whisper / "model.safetensors"), load_file(tmp_path / "made" / "model.safetensors")
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    changed = {name for name in before if not torch.equal(before[name].bfloat16(), after[name])}
    assert any("decoder.layers" in name for name in changed)
    assert any("encoder.layers" in name for name in changed) == (learns != "decoder")
    assert not any("embed" in name or "conv" in name or "proj_out" in name for name in changed)
    assert found.recordings == 4
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path / "made")
    assert theirs.dtype == torch.bfloat16
    mine = load_model(tmp_path / "made", device="cpu", dtype="float32")
    result = evaluate_recordings(mine, mine.tokenizer, read_talks(speech))
    assert result.recordings == 4


def test_a_qlora_folder_is_the_packed_base_plus_adapters(whisper: Path, speech: Path, tmp_path: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from peft.tuners.lora import LoraLayer

    teaching = settings(whisper, speech, learns="qlora", steps=3)
    run = _Run(teaching, tmp_path / "made", tmp_path / "work", tmp_path / "heard", quietly)
    run.go()
    after = load_file(tmp_path / "made" / "model.safetensors")
    layers = {
        f"model.{name}.weight": m for name, m in run.pupil.network.model.named_modules() if isinstance(m, LoraLayer)
    }
    # Encoder: 6 linears in each of 2 layers; decoder: 10 in each of 3. Every one of them, and nothing else.
    assert len(layers) == 2 * 6 + 3 * 10
    assert {name for name in after if name in layers} == set(layers)
    for name, layer in layers.items():
        base = layer.get_base_layer().weight
        assert base.dtype == torch.uint8
        assert (base.quant_state.quant_type, base.quant_state.nested) == ("nf4", True)
        assert layer.scaling["default"] == 8 / 4**0.5  # rsLoRA
        added = layer.scaling["default"] * (layer.lora_B["default"].weight @ layer.lora_A["default"].weight)
        torch.testing.assert_close(after[name], dequantize_4bit(base.data, base.quant_state).float() + added.detach())
    # What is saved says what the packed model with its adapters says.
    asked = [Asked(read_talks(speech)[0], (("en", "the light"),))]
    saved = load_pupil(tmp_path / "made", teaching, NOTHING, tmp_path / "heard")
    torch.testing.assert_close(saved.read(asked), run.pupil.read(asked).detach(), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("learns", ["decoder", "all", "lora", "qlora"])
def test_an_audio_llm_learns_and_loads_in_transformers(qwen: Path, speech: Path, tmp_path: Path, learns: str) -> None:
    teaching = settings(qwen, speech, learns=learns, saved_as="bfloat16", steps=3, together=1)
    run = _Run(teaching, tmp_path / "made", tmp_path / "work", tmp_path / "heard", quietly)
    found = run.go()
    assert found.loss["texts"] > 0
    before, after = load_file(qwen / "model.safetensors"), load_file(tmp_path / "made" / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].bfloat16(), after[name])}
    assert any(name.startswith("language_model.model.layers.1.") for name in changed)
    assert any(name.startswith("audio_tower.") for name in changed) == (learns != "decoder")
    assert "language_model.lm_head.weight" not in changed
    theirs = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "made", dtype=torch.float32).eval()
    talk = read_talks(speech)[0]
    mine = run.pupil.llm.score(talk.load(), "en", "de", run.pupil.tokens("licht")).detach()
    run.pupil.llm.model = theirs
    with torch.no_grad():
        saved = run.pupil.llm.score(talk.load(), "en", "de", run.pupil.tokens("licht"))
    torch.testing.assert_close(saved, mine, atol=0.15, rtol=0.05)  # bfloat16 rounds weights


def test_a_pruned_whisper_is_taught_by_the_whole_one_from_audio_alone(
    whisper: Path, speech: Path, tmp_path: Path
) -> None:
    cut(whisper, "decoder", [0, 2], tmp_path / "pruned", {})
    teaching = settings(
        tmp_path / "pruned", speech.with_name("bare.tsv"), teacher=str(whisper), texts="teacher", to=("en", "de"),
        kl=50.0, steps=40, peak_lr=3e-3,
    )  # fmt: skip
    found = teach(teaching, tmp_path / "made", work=tmp_path / "work", told=quietly)
    lines = [json.loads(line) for line in (tmp_path / "work" / "texts.jsonl").read_text().splitlines()]
    assert len(lines) == 1 + 4
    writer = SpeechWriter(whisper, teaching)
    for line, talk in zip(lines[1:], read_talks(speech), strict=True):
        assert line["texts"] == writer.write(talk, ("en", "de"))
    tokenizer = load_model(whisper, device="cpu").tokenizer
    written = [text for line in lines[1:] for text in line["texts"].values()]
    assert found.texts == sum(4 + len(tokenizer.encode(text)) + 1 <= 48 for text in written)  # others have no room
    assert found.alike == 1.0
    run = _Run(teaching, tmp_path / "again", tmp_path / "work", tmp_path / "heard", quietly)
    batch, texts = run.asked, [text for each in run.asked for _, text in each.texts]

    def apart(folder: Path) -> float:
        pupil, teacher = (load_pupil(each, teaching, NOTHING, tmp_path / "heard") for each in (folder, whisper))
        return float(Twins(pupil, teacher).divergence(pupil.read(batch), teacher.read(batch), texts))

    assert apart(tmp_path / "made") < 0.8 * apart(tmp_path / "pruned")
    assert json.loads((tmp_path / "made" / "config.json").read_text())["decoder_layers"] == 2


def test_an_encoder_is_listened_to_once_whatever_its_decoder_lost(whisper: Path, speech: Path, tmp_path: Path) -> None:
    talk, heard = read_talks(speech)[0], tmp_path / "heard"
    said = []
    for stack, kept in (("decoder", [0, 2]), ("decoder", [0]), ("encoder", [0])):
        cut(whisper, stack, kept, tmp_path / f"{stack}{len(kept)}", {})
        teaching = settings(tmp_path / f"{stack}{len(kept)}", speech)
        pupil = load_pupil(tmp_path / f"{stack}{len(kept)}", teaching, "decoder", heard)
        said.append(pupil.hear(talk))
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])
    assert len([*heard.glob("*/*.npy")]) == 2
    # In half precision it says the same, roughly, and that is kept apart.
    half = load_pupil(whisper, settings(whisper, speech, precision="bfloat16"), "decoder", heard)
    torch.testing.assert_close(half.hear(talk), said[0], atol=0.1, rtol=0.1)
    assert len([*heard.glob("*/*.npy")]) == 3


def test_in_half_precision_the_same_is_learnt(whisper: Path, speech: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        teaching = settings(whisper, speech, precision=precision, steps=12, peak_lr=1e-2)
        found = teach(teaching, tmp_path / precision, work=tmp_path / f"{precision}-work", told=quietly)
        losses.append(found.loss["texts"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_an_encoder_that_lost_a_layer_learns_to_hear_again(whisper: Path, speech: Path, tmp_path: Path) -> None:
    cut(whisper, "encoder", [1], tmp_path / "pruned", {})
    teaching = settings(tmp_path / "pruned", speech, teacher=str(whisper), kl=1.0, learns="all", steps=2)
    teach(teaching, tmp_path / "made", work=tmp_path / "work", told=quietly)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "pruned", tmp_path / "made"))
    name = "model.encoder.layers.0.fc1.weight"
    assert not torch.equal(before[name], after[name])
    assert load_model(tmp_path / "made", device="cpu").config.encoder_layers == 1


def test_both_texts_are_learnt_where_they_differ(whisper: Path, speech: Path, tmp_path: Path) -> None:
    teaching = settings(whisper, speech, teacher=str(whisper), texts="both", steps=1)
    run = _Run(teaching, tmp_path / "made", tmp_path / "work", tmp_path / "heard", quietly)
    talk = read_talks(speech)[0]
    written = SpeechWriter(whisper, teaching).write(talk, ("en",))["en"]
    assert [text for target, text in run.asked[0].texts if target == "en"] == [ROWS[0][1], written]
    assert ("de", ROWS[0][2]) not in run.asked[0].texts  # English can't become German here


def test_an_audio_llm_teaches_a_whisper(whisper: Path, qwen: Path, speech: Path, tmp_path: Path) -> None:
    teaching = settings(whisper, speech, teacher=str(qwen), texts="both", kl=1.0, steps=2)
    found = teach(teaching, tmp_path / "made", work=tmp_path / "work", told=quietly)
    assert "teacher" in found.loss


def test_a_whisper_m2m_learns_and_keeps_its_kvspn(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "m2m").mkdir()
    make_whisper_m2m(tmp_path / "m2m")
    teach(settings(tmp_path / "m2m", speech), tmp_path / "made", work=tmp_path / "work", told=quietly)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "m2m", tmp_path / "made"))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("speculator."))
    assert load_model(tmp_path / "made", device="cpu").has_speculator


# ---- interrupted and resumed ----


class Stopped(Exception):
    pass


def stopping(after: int) -> Callable[..., None]:
    calls = 0

    def told(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stopped

    return told


@pytest.mark.parametrize("learns", ["decoder", "qlora"])
def test_interrupted_anywhere_and_resumed_it_ends_with_the_same_file(
    whisper: Path, speech: Path, tmp_path: Path, learns: str
) -> None:
    teaching = settings(whisper, speech, teacher=str(whisper), texts="both", kl=0.5, learns=learns, save_every=2)
    teach(teaching, tmp_path / "whole", work=tmp_path / "work", told=quietly)
    for after in range(1, 8):  # four texts of the teacher, then four steps
        try:
            teach(teaching, tmp_path / f"{after}", work=tmp_path / f"w{after}", told=stopping(after))
        except Stopped:
            assert not (tmp_path / f"{after}").exists()
            teach(teaching, tmp_path / f"{after}", work=tmp_path / f"w{after}", told=quietly)
        assert files(tmp_path / f"{after}") == files(tmp_path / "whole"), after


@pytest.mark.parametrize("number", SIGNALS)
def test_stopped_by_a_signal_in_a_step_it_goes_on_behind_that_step(
    whisper: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    teaching = settings(whisper, speech, save_every=99)
    teach(teaching, tmp_path / "whole", work=tmp_path / "work", told=quietly)
    take = _Run._take_step

    def signalled(run: _Run) -> dict[str, float]:
        if run.step == 1:
            os.kill(os.getpid(), number)
        return take(run)

    with monkeypatch.context() as patched:
        patched.setattr(_Run, "_take_step", signalled)
        with pytest.raises(StoppedBySignal, match=rf"step 2 of {teaching.steps} is saved in .*broken"):
            teach(teaching, tmp_path / "once", work=tmp_path / "broken", told=quietly)
    assert not (tmp_path / "once").exists()
    assert torch.load(tmp_path / "broken" / "state.pt", weights_only=True)["step"] == 2
    teach(teaching, tmp_path / "once", work=tmp_path / "broken", told=quietly)
    assert files(tmp_path / "once") == files(tmp_path / "whole")


def test_the_command_says_where_it_stopped_and_the_same_one_goes_on(
    whisper: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = _Run._take_step

    def signalled(run: _Run) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return take(run)

    command = ["compress", "qlora", str(whisper), str(tmp_path / "taught"), "--speech", str(speech), "--no-packed"]
    command += ["--steps", "2", "--batch", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(_Run, "_take_step", signalled)
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 130
    said = " ".join(done.stderr.split())
    assert f"stopped: step 1 of 2 is saved in {tmp_path}/taught-training; the same command goes on from there" in said
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "taught" / "model.safetensors").exists()


def test_fewer_recordings_per_pass_change_nothing_but_rounding(whisper: Path, speech: Path, tmp_path: Path) -> None:
    found = []
    for together in (1, 4):
        teaching = settings(whisper, speech, batch=4, together=together, steps=2)
        teach(teaching, tmp_path / f"{together}", work=tmp_path / f"w{together}", told=quietly)
        found.append(load_file(tmp_path / f"{together}" / "model.safetensors"))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=5e-4, rtol=1e-3)


def test_a_training_begun_otherwise_is_not_gone_on_with(whisper: Path, speech: Path, tmp_path: Path) -> None:
    teaching = settings(whisper, speech, steps=2)
    teach(teaching, tmp_path / "one", work=tmp_path / "work", told=quietly)
    with pytest.raises(BadConfig, match="begun with another seed;"):
        teach(replace(teaching, seed=2), tmp_path / "two", work=tmp_path / "work", told=quietly)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learns": "encoder"}, "learns is 'encoder'; use decoder, all, lora, qlora"),
        ({"kl": 1.0}, "need a teacher: name one"),
        ({"texts": "both"}, "need a teacher: name one"),
        ({"teacher": "somebody"}, "the teacher has nothing to say"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"peak_lr": 0.0}, "must be above 0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], said: str, whisper: Path, speech: Path) -> None:
    with pytest.raises(BadConfig, match=said):
        settings(whisper, speech, **values)


def test_audio_alone_needs_somebody_who_writes_and_a_language(whisper: Path, speech: Path, tmp_path: Path) -> None:
    bare = speech.with_name("bare.tsv")
    with pytest.raises(BadConfig, match="it names no language to compare with"):
        teach(settings(whisper, bare), tmp_path / "a", work=tmp_path / "wa", told=quietly)
    teaching = settings(whisper, bare, teacher=str(whisper), texts="teacher")
    with pytest.raises(BadConfig, match="say in which the teacher is to write"):
        teach(teaching, tmp_path / "b", work=tmp_path / "wb", told=quietly)
    with pytest.raises(BadConfig, match="no recording has a text in a language that the model can be asked for"):
        teach(settings(whisper, speech, to=("zh",)), tmp_path / "c", work=tmp_path / "wc", told=quietly)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_weights_that_are_no_numbers_are_refused_by_name(
    whisper: Path, speech: Path, tmp_path: Path, role: str
) -> None:
    make_whisper(tmp_path, **SHAPE)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.decoder.layers.1.fc1.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    base, teacher = (tmp_path, whisper) if role == "student" else (whisper, tmp_path)
    teaching = settings(base, speech, teacher=str(teacher), kl=1.0)
    with pytest.raises(BadModel, match=r"decoder\.layers\.1\.fc1\.weight holds infinite numbers or none"):
        teach(teaching, tmp_path / "made", work=tmp_path / "work", told=quietly)


def test_what_is_stored_as_whole_numbers_teaches_and_does_not_learn(
    whisper: Path, speech: Path, tmp_path: Path
) -> None:
    quantize(whisper, tmp_path / "small")
    with pytest.raises(BadModel, match="stored as whole numbers, which can't learn"):
        teach(settings(tmp_path / "small", speech), tmp_path / "a", work=tmp_path / "wa", told=quietly)
    teaching = settings(whisper, speech, teacher=str(tmp_path / "small"), kl=1.0, steps=1)
    assert teach(teaching, tmp_path / "b", work=tmp_path / "wb", told=quietly).loss["teacher"] > 0


def test_another_family_is_refused_by_name(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(BadModel, match="'llama' model; whisper, whisper_m2m, qwen2_audio can learn and teach"):
        load_pupil(tmp_path, settings(tmp_path, speech), "decoder", tmp_path)


def test_a_loss_that_is_no_number_ends_the_training(whisper: Path, speech: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="a lower peak_lr may help"):
        teach(settings(whisper, speech, peak_lr=1e20, steps=9), tmp_path / "a", work=tmp_path / "w", told=quietly)
    assert not (tmp_path / "a").exists()


# ---- commands ----


def test_distill_is_a_command(whisper: Path, speech: Path, tmp_path: Path) -> None:
    cut(whisper, "decoder", [0, 2], tmp_path / "pruned", {})
    asked = ["compress", "distill", str(whisper), str(tmp_path / "pruned"), str(tmp_path / "made")]
    more = ["--speech", str(speech), "--steps", "2", "--batch", "2", "--device", "cpu", "--silence", "0.2"]
    result = CliRunner().invoke(app, asked + more)
    assert result.exit_code == 0, result.output
    assert "texts that both spell alike" in result.output
    assert load_model(tmp_path / "made", device="cpu").config.decoder_layers == 2


def test_qlora_is_a_command_that_counts_in_every_way(whisper: Path, speech: Path, tmp_path: Path) -> None:
    asked = ["compress", "qlora", str(whisper), str(tmp_path / "made"), "--speech", str(speech), "--rank", "4"]
    result = CliRunner().invoke(app, [*asked, "--steps", "2", "--batch", "2", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    stored = load_file(whisper / "model.safetensors").items()
    whole = sum(tensor.numel() for name, tensor in stored if name != "proj_out.weight")
    # Attention: 4 of 16 x 16; MLP: 2 of 16 x 16; 2 encoder layers, 3 decoder layers with two attentions each.
    linears = 2 * 6 + 3 * 10
    held = whole - linears * 256 + linears * (128 + 4 + 1)
    for text in (f"{whole:,}", f"{held:,}", f"{linears * 4 * 32:,}", "MB on disk", "ms per token of a text read"):
        assert text in result.output, text
    share = 100 * (1 - held / whole)
    assert f"0 % of the parameters are gone; counted as numbers held, as arXiv 2505.20237 counts, {share:.0f} %" in (
        " ".join(result.output.split())
    )


def test_a_recipe_is_run_by_train(whisper: Path, speech: Path, tmp_path: Path) -> None:
    lines = [f'base = "{whisper}"', f'speech = ["{speech}"]', "steps = 2", "batch = 2", 'name = "mine"']
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "mine.toml"), "--runs", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "mine" / "model", device="cpu")
    (tmp_path / "mine.toml").write_text("\n".join([*lines, "setps = 3"]))
    with pytest.raises(BadConfig, match="unknown key 'setps'; did you mean 'steps'"):
        load_teaching(tmp_path / "mine.toml")
