"""Pruning: which layers go, what the folder is without them, resumption, and what is refused."""

import json
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
from streamtrans.compress.pruning import ORDERS, Pruning, prune, search, subjects
from streamtrans.compress.pruning.scores import Notebook, Score, Written, score
from streamtrans.compress.pruning.stacks import cut, groups_stay
from streamtrans.compress.pruning.subjects import AudioLanguageSubject, SpeechSubject
from streamtrans.compress.speculator import add_speculator
from streamtrans.core import BadConfig, BadModel
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import read_talks
from streamtrans.evaluate.recordings import RecordingsConfig, evaluate_recordings
from streamtrans.model.audio_lm.qwen2_audio import order
from streamtrans.model.config import NetworkConfig
from streamtrans.model.loading import load_model, load_network, load_speech
from streamtrans.model.speech import TorchSpeechModel
from tests.audio_models import make_qwen
from tests.checkpoints import make_qwen2_audio, make_whisper, make_whisper_m2m
from tests.model.test_audio_lm import check_logits
from tests.model.test_parity import speech

SHAPE = {
    "d_model": 16,
    "encoder_layers": 4,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 5,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
}


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("people")
    lines = ["audio\tlanguage\ten\tde\tzh"]
    for number, (language, texts) in enumerate(
        (("en", "Hello, there!\tHallo!\t"), ("de", "Good evening.\tGuten Abend.\t晚上好。"), ("en", "Yes.\tJa.\t"))
    ):
        audio = np.random.default_rng(number).normal(0, 0.1, 9_000 + 3_000 * number)
        soundfile.write(folder / f"{number}.wav", audio, 16_000)
        lines.append(f"{number}.wav\t{language}\t{texts}")
    (folder / "people.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_talks(folder / "people.tsv")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder, **SHAPE)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"alignment_heads": [[0, 1], [2, 0], [4, 1]]}))
    return folder


def loaded(folder: Path):
    return load_model(folder, device="cpu", dtype="float64")


# ---- which layers go ----


def worth(without: frozenset[int]) -> Score:
    """A world in which 3 costs nothing, then 1 costs least, unless 2 is gone too."""
    costs = {1: 2.0, 2: 5.0, 3: 0.0, 4: 3.0}
    return Score({"de-de": 90 - sum(costs[layer] for layer in without) - 20 * ({1, 2} <= without)})


def test_layers_go_in_the_order_of_what_they_cost() -> None:
    rounds = ORDERS["importance"](6, 3, worth, lambda *_: None)
    assert [each.removed for each in rounds] == [(3,), (3, 1), (3, 1, 4)]
    assert [each.score.mean for each in rounds] == [90, 88, 85]
    assert rounds[1].candidates == {1: 88, 2: 85, 4: 87}


def test_of_equals_the_lowest_goes() -> None:
    rounds = ORDERS["importance"](5, 2, lambda _: Score({"a": 1.0}), lambda *_: None)
    assert [each.removed for each in rounds] == [(1,), (1, 2)]


@pytest.mark.parametrize(
    ("order", "depth", "gone"),
    [("middle", 32, [*range(12, 20)]), ("middle", 5, [1, 2, 3]), ("even", 6, [1, 3, 4]), ("even", 4, [1, 2])],
)
def test_baselines_leave_the_first_and_the_last(order: str, depth: int, gone: list[int]) -> None:
    rounds = ORDERS[order](depth, len(gone), lambda _: Score({"a": 1.0}), lambda *_: None)
    assert list(rounds[-1].removed) == gone
    for each in rounds:
        assert {0, depth - 1}.isdisjoint(each.removed)
        assert len(each.removed) == len(set(each.removed))


def test_points_are_errors_of_transcripts_and_chrf_of_translations() -> None:
    texts = [
        Text("1", "de", "de", "Guten Abend, Welt.", "guten morgen welt"),
        Text("1", "de", "en", "Good evening, world.", "Good evening, word."),
        Text("1", "de", "zh", "晚上好。", "晚上"),
    ]
    found = score(Written(texts, 3, 0.5))
    import sacrebleu

    assert found.directions["de-de"] == pytest.approx(100 - 100 / 3)
    plus = sacrebleu.corpus_chrf([texts[1].hypothesis], [[texts[1].reference]], word_order=2).score
    plain = sacrebleu.corpus_chrf([texts[2].hypothesis], [[texts[2].reference]]).score
    assert found.directions["de-en"] == pytest.approx(plus)
    assert found.directions["de-zh"] == pytest.approx(plain)
    assert found.mean == pytest.approx(sum(found.directions.values()) / 3)


def test_a_loop_in_one_direction_doesnt_drown_the_others() -> None:
    assert Score({"de-de": -900.0, "de-en": 40.0}).mean == 20


# ---- what a model writes without layers ----


def test_the_whole_model_writes_what_it_writes_elsewhere(whisper: Path, talks) -> None:
    model = load_model(whisper, device="cpu", dtype="float32")
    theirs = evaluate_recordings(model, model.tokenizer, talks, RecordingsConfig())
    for stack, depth in (("decoder", 5), ("encoder", 4)):
        subject = SpeechSubject(load_model(whisper, device="cpu", dtype="float32"), stack, talks, (), 2)
        mine = subject.write(range(depth))
        assert {(t.row, t.target, t.hypothesis) for t in mine.texts} == {
            (t.row, t.target, t.hypothesis) for t in theirs.texts
        }


@pytest.mark.parametrize(("stack", "kept"), [("decoder", [0, 2, 4]), ("encoder", [0, 3])])
def test_what_is_scored_is_what_the_folder_writes(stack: str, kept, whisper: Path, talks, tmp_path: Path) -> None:
    subject = SpeechSubject(loaded(whisper), stack, talks, (), 2)
    whole = subject.write(range(SHAPE[f"{stack}_layers"]))
    scored = subject.write(kept)
    assert subject.write(range(SHAPE[f"{stack}_layers"])).texts == whole.texts  # nothing stays changed
    assert scored.texts != whole.texts
    cut(whisper, stack, kept, tmp_path / "cut", {})
    alone = SpeechSubject(loaded(tmp_path / "cut"), stack, talks, (), 2)
    assert alone.write(range(len(kept))).texts == scored.texts


def test_the_encoder_is_asked_once_while_decoder_layers_go(whisper: Path, talks) -> None:
    model, asked = loaded(whisper), []
    model.network.model.encoder.register_forward_hook(lambda *_: asked.append(1))
    subject = SpeechSubject(model, "decoder", talks, (), 2)
    for kept in (range(5), [0, 1, 2, 4], [0, 4]):
        subject.write(kept)
    assert len(asked) == 2  # two lots of recordings


def test_a_text_begins_where_another_has_ended(whisper: Path, talks) -> None:
    together = SpeechSubject(loaded(whisper), "decoder", talks, (), 2)
    found = together.write(range(5))
    lots = [[talk for talk, _ in together.asked[at : at + 2]] for at in (0, 2)]
    alone = [SpeechSubject(loaded(whisper), "decoder", lot, (), 2).write(range(5)) for lot in lots]
    assert found.texts == [text for written in alone for text in written.texts]
    assert found.passes < sum(written.passes for written in alone)  # nobody waits for the longest of a lot


def test_what_is_heard_elsewhere_is_written_alike(whisper: Path, talks) -> None:
    subject, heard = SpeechSubject(loaded(whisper), "decoder", talks, (), 1), list[str]()

    def hear(talk):
        heard.append(talk.name)
        return subject.model.hear([talk.load()])[0][0]

    other = SpeechSubject(loaded(whisper), "decoder", talks, (), 1, hear=hear)
    assert other.write([0, 2, 4]).texts == subject.write([0, 2, 4]).texts
    assert (sorted(heard), other.heard, subject.heard) == (sorted(talk.name for talk in talks), 0, 3)


def test_silence_takes_the_place_of_the_padding_and_is_another_selection(whisper: Path, talks, tmp_path: Path) -> None:
    subjects = [SpeechSubject(loaded(whisper), "decoder", talks, (), 1, silence_s=silence) for silence in (None, 0.2)]
    audio = subjects[0].asked[0][0].load()
    padded, short = (subject._memories(0, [audio], range(5))[0].frames for subject in subjects)
    assert (padded, short) == (100, ((len(audio) + 3200) // 160 + 1) // 2)
    said = ["compress", "prune", whisper, tmp_path / "out", "--selection", talks[0].audio.parent / "people.tsv"]
    options = ["--remove", 1, "--silence", 0.2, "--work", tmp_path / "work"]
    result = CliRunner().invoke(app, [*map(str, (*said, *options))])
    assert result.exit_code == 0, result.output
    with pytest.raises(BadConfig, match="was begun with another silence_s"):
        prune(whisper, tmp_path / "other", talks, Pruning(1), work=tmp_path / "work")


@pytest.mark.parametrize("room", [1 << 30, 0])
def test_keys_are_made_once_where_there_is_room_and_the_search_is_the_same(
    room: int, whisper: Path, talks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = TorchSpeechModel.remember

    def noting(self, features, frames):
        made.append(1)
        return real(self, features, frames)

    with monkeypatch.context() as patched:
        patched.setattr(TorchSpeechModel, "remember", noting)
        patched.setattr(subjects, "_MOST_KEPT", room)
        found = prune(whisper, tmp_path / "out", talks, Pruning(2, together=2, dtype="float64"))
    assert len(made) == 2 * (1 if room else 1 + 3 + 2)  # two lots of recordings, then for the whole and each candidate
    for each in found.rounds:
        for layer, points in each.candidates.items():
            gone = {*each.removed[:-1], layer}
            alone = tmp_path / f"{len(gone)}-{layer}"
            cut(whisper, "decoder", [number for number in range(5) if number not in gone], alone, {})
            subject = SpeechSubject(loaded(alone), "decoder", talks, (), 2)
            assert score(subject.write(range(5 - len(gone)))).mean == points


# ---- the folder ----


@pytest.mark.parametrize(("stack", "kept"), [("decoder", [0, 2, 4]), ("encoder", [0, 3])])
def test_a_pruned_whisper_is_the_network_without_the_layers_here_and_in_transformers(
    stack: str, kept: list[int], whisper: Path, tmp_path: Path
) -> None:
    cut(whisper, stack, kept, tmp_path / "cut", {"kept": kept})
    theirs = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    part = getattr(theirs.model, stack)
    part.layers = torch.nn.ModuleList(part.layers[number] for number in kept)
    again, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / "cut", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    mel, tokens = torch.randn(1, 80, 200), torch.tensor([[1, 7, 9, 11]])
    with torch.inference_mode():
        wanted = theirs(mel, decoder_input_ids=tokens, use_cache=False).logits
        assert torch.equal(again.eval()(mel, decoder_input_ids=tokens, use_cache=False).logits, wanted)
    mine, old = loaded(tmp_path / "cut"), loaded(whisper)
    assert len(getattr(mine.network.model, stack).layers) == len(kept)
    for place, number in enumerate(kept):
        one, other = (getattr(each.network.model, stack).layers for each in (mine, old))
        for name, tensor in one[place].state_dict().items():
            assert torch.equal(tensor, other[number].state_dict()[name])


def test_alignment_heads_and_translation_survive(whisper: Path, tmp_path: Path) -> None:
    cut(whisper, "decoder", [0, 2, 3], tmp_path / "one", {})
    model = loaded(tmp_path / "one")
    assert model.manner.alignment_heads == ((0, 1), (1, 0))
    assert model.prompt("en", "de")  # it is no distilled one, though its decoder has become the shallower stack
    layers = {"decoder_layers": 3, "text_encoder_layers": 1, "speculator_blocks": 1}
    convert(tmp_path / "one", tmp_path / "m2m", **layers, languages=("en", "de"))  # the way to training
    assert loaded(tmp_path / "m2m").manner.alignment_heads == ((0, 1), (1, 0))
    cut(tmp_path / "one", "encoder", [0, 3], tmp_path / "two", {})
    raw = json.loads((tmp_path / "two" / "config.json").read_text())
    assert raw["pruned_from"] == {"encoder_layers": 4, "decoder_layers": 5}
    assert (raw["encoder_layers"], raw["decoder_layers"]) == (2, 3)
    raw["pruned_from"] = {"encoder_layers": "many"}
    (tmp_path / "two" / "config.json").write_text(json.dumps(raw))
    with pytest.raises(BadModel, match=r"pruned_from is .*; give encoder_layers and decoder_layers"):
        loaded(tmp_path / "two")


def test_what_was_distilled_stays_distilled(tmp_path: Path) -> None:
    (tmp_path / "turbo").mkdir()
    make_whisper(tmp_path / "turbo", **SHAPE | {"encoder_layers": 5, "decoder_layers": 3})
    cut(tmp_path / "turbo", "encoder", [0, 2, 4], tmp_path / "cut", {})
    assert loaded(tmp_path / "cut").translations[0][1] == loaded(tmp_path / "turbo").translations[0][1]
    assert all(len(targets) == 1 for _, targets in loaded(tmp_path / "cut").translations)


@pytest.mark.parametrize(("kept", "blocks"), [([0, 3], 2), ([0, 1, 3], 0)])
def test_a_kvspn_stays_where_its_groups_do(kept: list[int], blocks: int, tmp_path: Path) -> None:
    (tmp_path / "m2m").mkdir()
    make_whisper_m2m(tmp_path / "m2m")
    config = json.loads((tmp_path / "m2m" / "config.json").read_text()) | {"kept_decoder_layers": [0, 2, 4, 5]}
    (tmp_path / "m2m" / "config.json").write_text(json.dumps(config))
    cut(tmp_path / "m2m", "decoder", kept, tmp_path / "cut", {})
    model = loaded(tmp_path / "cut")
    assert model.config.speculator_blocks == blocks
    assert model.config.decoder_layers == len(kept)
    said = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert said["kept_decoder_layers"] == [[0, 2, 4, 5][layer] for layer in kept]
    assert groups_stay(NetworkConfig.of(config), kept) == bool(blocks)
    trained = load_network(tmp_path / "cut", NetworkConfig.of(said))  # with the text encoder, which training needs
    assert trained.text_encoder is not None


# ---- an audio LLM ----


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    make_qwen2_audio(folder)
    return folder


def test_an_audio_llm_answers_as_transformers_generates(qwen: Path, talks) -> None:
    subject = AudioLanguageSubject(qwen, talks[:1], ("de",), "cpu", "float32")
    inputs = subject.llm.inputs(talks[0].load(), order("en", "de"))
    wanted = subject.llm.model.generate(**inputs, do_sample=False, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :]
    assert "Translate the English speech into German:" in subject.llm.tokenizer.decode(inputs["input_ids"][0])
    answer = subject.llm.answer(subject._question(0), len(talks[0].load()))
    assert len(set(answer)) > 1
    assert answer[:12] == wanted.tolist()[: len(answer)]


def test_an_audio_llm_loses_layers_and_loads_in_transformers_with_equal_logits(
    qwen: Path, talks, tmp_path: Path
) -> None:
    asked = Pruning(2, "language_model", targets=("de",), device="cpu", dtype="float32")
    found = prune(qwen, tmp_path / "out", talks[:2], asked)
    assert len(found.rounds[0].candidates) == 3
    kept = list(found.kept)
    assert (kept[0], kept[-1], len(kept)) == (0, 4, 3)
    again, info = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert again.config.text_config.num_hidden_layers == 3
    theirs = Qwen2AudioForConditionalGeneration.from_pretrained(qwen).eval()
    decoder = theirs.get_decoder()
    decoder.layers = torch.nn.ModuleList(decoder.layers[number] for number in kept)
    subject = AudioLanguageSubject(qwen, talks[:2], ("de",), "cpu", "float32")
    inputs = subject.llm.inputs(talks[0].load(), order("en", "de"))
    with torch.inference_mode():
        assert torch.equal(again.eval()(**inputs, use_cache=False).logits, theirs(**inputs, use_cache=False).logits)
    alone = AudioLanguageSubject(tmp_path / "out", talks[:2], ("de",), "cpu", "float32")
    assert alone.write(range(3)).texts == subject.write(kept).texts
    subject.write(range(5))
    assert subject.write(kept).texts == alone.write(range(3)).texts  # nothing stays changed


def test_an_audio_llm_without_some_layers_is_served_with_the_logits_of_transformers(tmp_path: Path) -> None:
    make_qwen(tmp_path / "whole")
    cut(tmp_path / "whole", "language_model", [0, 2], tmp_path / "out", {})
    reference = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    ours = load_speech(tmp_path / "out", device="cpu", dtype="float32")
    assert len(ours.encode([speech(1.1)])[0].prefix) == 2  # type: ignore[attr-defined]
    check_logits(ours, tmp_path / "out", reference, speech(1.7), ("de", "en"))


@pytest.mark.parametrize(("kept", "stays"), [([0, 2, 4], True), ([0, 1, 4], False), ([0, 2, 3, 4], False)])
def test_a_kvspn_of_an_audio_llm_stays_where_its_groups_do(kept: list[int], stays: bool, tmp_path: Path) -> None:
    make_qwen(tmp_path / "whole", layers=6)
    add_speculator(tmp_path / "whole", tmp_path / "made", blocks=3)
    cut(tmp_path / "made", "language_model", kept, tmp_path / "out", {})
    assert load_speech(tmp_path / "out", device="cpu").has_speculator == stays


def test_a_config_that_says_nothing_of_layers_gets_their_number(qwen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    for file in qwen.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    raw = json.loads((folder / "config.json").read_text())
    del raw["text_config"]["num_hidden_layers"], raw["text_config"]["layer_types"]
    (folder / "config.json").write_text(json.dumps(raw))
    cut(folder, "language_model", [0, 1, 2, 4], tmp_path / "out", {})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["num_hidden_layers"] == 4


# ---- the whole of it ----


@pytest.mark.parametrize("make", [make_whisper, make_whisper_m2m])
@pytest.mark.parametrize("stack", ["decoder", "encoder"])
def test_a_search_ends_in_a_folder_that_says_what_was_done(make, stack: str, talks, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    make(
        tmp_path / "model",
        **{name: SHAPE[name] for name in ("encoder_layers", "decoder_layers")},
        **({} if make is make_whisper else {"speculator_blocks": 5}),
    )
    found = prune(tmp_path / "model", tmp_path / "out", talks, Pruning(2, stack, dtype="float32"))
    assert len(found.kept) == found.depth - 2
    assert {0, found.depth - 1} <= set(found.kept)
    for each in found.rounds:
        assert each.score.mean == max(each.candidates.values())
    card = json.loads((tmp_path / "out" / "prune.json").read_text())
    assert card["kept"] == list(found.kept)
    assert card["rounds"][1]["removed"] == list(found.rounds[1].removed)
    loaded(tmp_path / "out")


class BrokenOff(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_interrupted_anywhere_and_resumed_it_ends_with_the_same_files(
    after: int, whisper: Path, talks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Pruning(2, dtype="float32")
    prune(whisper, tmp_path / "once", talks, asked)
    written: list[int] = []
    real = SpeechSubject.write

    def breaking(self, kept):
        if len(written) == after and not broken:
            broken.append(1)
            raise BrokenOff
        written.append(1)
        return real(self, kept)

    broken: list[int] = []
    monkeypatch.setattr(SpeechSubject, "write", breaking)
    if after < 6:
        with pytest.raises(BrokenOff):
            prune(whisper, tmp_path / "twice", talks, asked)
    else:  # at the very end, while the folder is written
        with monkeypatch.context() as patched:
            patched.setattr(search, "cut", lambda *_: (_ for _ in ()).throw(BrokenOff))
            with pytest.raises(BrokenOff):
                prune(whisper, tmp_path / "twice", talks, asked)
        broken.append(1)
    assert not (tmp_path / "twice").exists()
    notes = tmp_path / "twice-pruning" / "scores.jsonl"
    with notes.open("a") as stream:
        stream.write('{"without": [1, 2], "dir')  # what the power cut left of a line
    prune(whisper, tmp_path / "twice", talks, asked)
    assert len(written) == 1 + 3 + 2  # the whole, then each candidate once
    for file in sorted((tmp_path / "once").iterdir()):
        assert file.read_bytes() == (tmp_path / "twice" / file.name).read_bytes(), file.name
    assert all(json.loads(line) for line in notes.read_text().splitlines())


def test_scores_are_shared_between_orders_and_numbers(whisper: Path, talks, tmp_path: Path, monkeypatch) -> None:
    prune(whisper, tmp_path / "two", talks, Pruning(2), work=tmp_path / "work")
    monkeypatch.setattr(search, "load_subject", lambda *_, **__: pytest.fail("all of it is known"))
    one = prune(whisper, tmp_path / "one", talks, Pruning(1), work=tmp_path / "work")
    middle = prune(whisper, tmp_path / "middle", talks, Pruning(1, order="middle"), work=tmp_path / "work")
    assert middle.rounds[0].score.mean == one.rounds[0].candidates[2]


def test_notes_of_something_else_are_refused(tmp_path: Path) -> None:
    Notebook(tmp_path / "scores.jsonl", {"base": "a", "dtype": "x"})
    with pytest.raises(BadConfig, match=r"scores\.jsonl was begun with another base; name another --work folder"):
        Notebook(tmp_path / "scores.jsonl", {"base": "b", "dtype": "x"})
    (tmp_path / "scores.jsonl").write_text("shopping list\n")
    with pytest.raises(BadConfig, match="holds no scores of layers"):
        Notebook(tmp_path / "scores.jsonl", {"base": "b"})


def broken(folder: Path, target: Path, name: str, value: float) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors[name][0, 0] = value
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


def test_wrong_input_is_refused_by_name(whisper: Path, talks, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadConfig, match=r"the decoder has 5 layers, of which .* 1 to 3 can be removed, not 4"):
        prune(whisper, out, talks, Pruning(4))
    with pytest.raises(BadConfig, match="unknown stack 'middle'; use decoder, encoder, language_model"):
        prune(whisper, out, talks, Pruning(1, "middle"))
    with pytest.raises(BadModel, match="has no stack 'language_model'; it has decoder, encoder"):
        prune(whisper, out, talks, Pruning(1, "language_model"))
    with pytest.raises(BadConfig, match="unknown order 'random'; use importance, even, middle"):
        Pruning(1, order="random")
    with pytest.raises(BadConfig, match="remove is 0; use 1 or more"):
        Pruning(0)
    with pytest.raises(BadConfig, match="the selection is empty"):
        prune(whisper, out, [], Pruning(1))
    with pytest.raises(BadConfig, match="no recording has a text in a language"):
        prune(whisper, out, talks, Pruning(1, targets=("fr",)), work=tmp_path / "fr")
    nan = broken(whisper, tmp_path / "nan", "model.decoder.layers.2.fc1.weight", torch.nan)
    with pytest.raises(BadModel, match=r"decoder\.layers\.2\.fc1\.weight holds infinite numbers or none"):
        prune(nan, out, talks, Pruning(1))
    with pytest.raises(BadConfig, match="exists already"):
        prune(whisper, nan, talks, Pruning(1))
    assert not out.exists()


def test_the_command_line_prunes_and_shows_and_keeps(whisper: Path, talks, tmp_path: Path) -> None:
    manifest = talks[0].audio.parent / "people.tsv"

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["compress", "prune", str(whisper), *map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    shared = ("--selection", manifest, "--work", tmp_path / "work", "--to", "de", "--to", "en")
    said = run(tmp_path / "out", *shared, "--remove", 2)
    assert "decoder of 5 layers, by importance" in said
    assert "de-en" in said
    run(tmp_path / "even", *shared, "--remove", 2, "--order", "even")
    kept = json.loads((tmp_path / "work" / "importance-2.json").read_text())
    assert kept["command"]
    assert kept["machine"]["cores"] > 0
    assert kept["figures"]["bytes"] < kept["figures"]["bytes_before"]
    assert len(kept["figures"]["rounds"]) == 2
    assert (tmp_path / "work" / "scores.png").read_bytes().startswith(b"\x89PNG")
    empty = tmp_path / "empty.tsv"
    empty.write_text("audio\tlanguage\tde\n")
    with pytest.raises(BadConfig, match="has a header and no talk"):
        run(tmp_path / "x", "--selection", empty, "--remove", 1)
