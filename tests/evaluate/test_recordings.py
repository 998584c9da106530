"""Recordings scored offline: every text that there is and the model can be asked for."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamtrans.core import BadConfig, BadModel
from streamtrans.engine import Engine, EngineConfig
from streamtrans.evaluate import recordings
from streamtrans.evaluate.manifest import read_talks
from streamtrans.evaluate.recordings import RecordingsConfig, evaluate_recordings
from streamtrans.model.loading import load_model, load_translator
from streamtrans.stream import Stages
from tests.checkpoints import make_whisper
from tests.translators import make_m2m

SHAPE = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    lines = ["audio\tlanguage\ten\tde\tzh"]
    for number, (language, texts) in enumerate(
        (("en", "Hello, there!\tHallo!\t"), ("de", "Good evening.\tGuten Abend.\t晚上好。"), ("en", "\tNein.\t"))
    ):
        audio = np.random.default_rng(number).normal(0, 0.1, 9_000 + 3_000 * number)
        soundfile.write(folder / f"{number}.wav", audio, 16_000)
        lines.append(f"{number}.wav\t{language}\t{texts}")
    (folder / "people.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "people.tsv"


def test_every_text_that_there_is_gets_an_answer_and_a_score(model, manifest: Path) -> None:
    told: list[tuple[int, int]] = []
    result = evaluate_recordings(
        model, model.tokenizer, read_talks(manifest), progress=lambda done, total: told.append((done, total))
    )
    pairs = [(text.row, text.source, text.target) for text in result.texts]
    assert sorted(pairs) == [
        ("0", "en", "de"),
        ("0", "en", "en"),
        ("1", "de", "de"),
        ("1", "de", "en"),
        ("1", "de", "zh"),
        ("2", "en", "de"),
    ]
    assert {source: set(row) for source, row in result.bleu.items()} == {"en": {"de"}, "de": {"en", "zh"}}
    assert set(result.error_rate) == {"en", "de"}
    assert told[-1] == (3, 3)
    figures = result.figures()
    assert figures["normaliser"].startswith("error rates: streamtrans.corpus.normalise")
    assert set(figures["bleu_signatures"]) == {"de", "en", "zh"}
    assert figures["audio_s"] == pytest.approx(36_000 / 16_000, abs=0.1)


def test_scores_follow_from_the_texts(model, manifest: Path, monkeypatch) -> None:
    said = {"en": "hello there", "de": "Nein.", "zh": "晚上好。"}
    real = recordings._texts

    def spoken(talk, targets, reading, speller):
        return [
            recordings.replace(text, hypothesis=said[text.target]) for text in real(talk, targets, reading, speller)
        ]

    monkeypatch.setattr(recordings, "_texts", spoken)
    result = evaluate_recordings(model, model.tokenizer, read_talks(manifest), RecordingsConfig(together=1))
    assert result.error_rate == {"en": 0.0, "de": 1.0}  # case and marks don't count there, and do in BLEU
    assert result.bleu["de"]["zh"] == pytest.approx(100.0)
    assert result.chrf["de"]["zh"] == pytest.approx(100.0)


def test_fewer_languages_may_be_asked_for_and_none_is_an_error(model, manifest: Path) -> None:
    talks = read_talks(manifest)
    result = evaluate_recordings(model, model.tokenizer, talks, RecordingsConfig(targets=("zh",)))
    assert [(text.row, text.target) for text in result.texts] == [("1", "zh")]
    assert (result.error_rate, result.recordings) == ({}, 1)
    with pytest.raises(BadConfig, match="no recording has a text"):
        evaluate_recordings(model, model.tokenizer, talks, RecordingsConfig(targets=("fr",)))
    with pytest.raises(BadConfig, match="together must be at least 1"):
        RecordingsConfig(together=0)


def test_a_stock_model_is_asked_for_what_it_knows_padded_or_not(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    make_whisper(tmp_path, **SHAPE)
    heard: list[int] = []

    def read(config: RecordingsConfig):
        stock = load_model(tmp_path, device="cpu", dtype="float32")
        stock.log_mel, mel = (lambda audio: (heard.append(audio.shape[-1]), mel(audio))[1]), stock.log_mel
        stock.log_mel.config = mel.config
        return evaluate_recordings(stock, stock.tokenizer, read_talks(manifest), config)

    result = read(RecordingsConfig())
    assert result.unasked == ("de-zh", "en-de")
    assert set(heard) == {32_000}  # this one's window
    heard.clear()
    read(RecordingsConfig(silence_ms=250))
    assert sorted(heard) == [13_000, 16_000]


def test_a_layer_can_be_left_out(manifest: Path, tmp_path: Path) -> None:
    make_whisper(tmp_path, **SHAPE)
    talks = read_talks(manifest)

    def texts(without: int | None) -> list[str]:
        stock = load_model(tmp_path, device="cpu", dtype="float32")
        result = evaluate_recordings(stock, stock.tokenizer, talks, RecordingsConfig(without=without))
        return [text.hypothesis for text in result.texts]

    assert texts(None) != texts(0) != texts(1)
    with pytest.raises(BadModel, match="it has decoder layers 0 to 1"):
        texts(2)


def test_behind_an_ear_a_translator_writes_all_but_the_transcript(tmp_path, manifest: Path) -> None:
    for name in ("ear", "m2m"):
        (tmp_path / name).mkdir()
    make_whisper(tmp_path / "ear", **SHAPE)
    make_m2m(tmp_path / "m2m")
    ear, translator = load_model(tmp_path / "ear"), load_translator(tmp_path / "m2m")
    talks, stages = read_talks(manifest), Stages(ear.vocabulary, translator.vocabulary)
    heard = evaluate_recordings(ear, ear.tokenizer, talks, RecordingsConfig(targets=("en", "de")))
    result = evaluate_recordings(ear, ear.tokenizer, talks, RecordingsConfig(together=1), translator=translator)
    assert {source: set(row) for source, row in result.bleu.items()} == {"en": {"de"}, "de": {"en", "zh"}}
    transcripts = {(text.row, text.hypothesis) for text in heard.texts if text.source == text.target}
    assert {(text.row, text.hypothesis) for text in result.texts if text.source == text.target} == transcripts
    with Engine(ear, recordings._deaf, EngineConfig(slots=2), translator) as engine:
        for talk in talks:
            [asked] = [text for text in result.texts if (text.row, text.target) == (talk.name, "de")]
            read = engine.submit(recordings._job(talk.load(), talk.language, ("de",))).result()
            speller = stages.of("de", talk.language)
            assert asked.hypothesis == speller.decode(read.hypotheses[0].tokens).strip()
