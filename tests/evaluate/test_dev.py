from dataclasses import replace

import numpy as np
import pytest

from streamtrans.core import BadConfig, DecodeStats
from streamtrans.corpus import normalise, own_sentences
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.decode.beam import BeamConfig, beam, converse_beam
from streamtrans.engine import EngineConfig
from streamtrans.evaluate import DevConfig, evaluate_dev, sample
from streamtrans.evaluate.dev import acceptance
from streamtrans.evaluate.spoken import dev_rows
from streamtrans.metrics import bleu, word_error_rate


def alone(model, audio, target):
    """Decode one text by itself, without engine, batch or drafts."""
    prompt = model.prompt(target, None)
    cache = model.allocate(1).open(model.encode([audio])[0])
    nobody = parse_drafters("none").make(DraftContext(len(prompt), model.eot))
    limit = EngineConfig().limit(model.max_tokens, prompt, len(audio), model.tokens_per_second(target))
    return converse(model, decode(prompt, (), cache, nobody, eot=model.eot, limit=limit))


def test_scores_are_those_of_each_utterance_decoded_alone(model, rows, speak):
    seen, rows = [], rows[:2]
    config = DevConfig(together=2, drafter="kvspn")
    result = evaluate_dev(model, model.tokenizer, rows, config, speak=speak, progress=lambda *at: seen.append(at))

    assert len(result.texts) == 2 * 3 * 3
    assert seen[-1] == (6, 6) == (len(seen), result.utterances)
    for text in result.texts:
        row = rows[int(text.row)]
        found = alone(model, speak(row, text.source).audio, text.target)
        assert text.hypothesis == model.tokenizer.decode(found.tokens).strip()
        assert text.reference == normalise(row.texts[text.target], text.target)

    for source in ("en", "de", "zh"):
        assert set(result.bleu[source]) == {"en", "de", "zh"} - {source}
        for target in ("en", "de", "zh"):
            mine = [text for text in result.texts if (text.source, text.target) == (source, target)]
            hyps, refs = [text.hypothesis for text in mine], [text.reference for text in mine]
            if source == target:
                assert result.error_rate[source] == pytest.approx(word_error_rate(hyps, refs, target))
            else:
                assert result.bleu[source][target] == pytest.approx(bleu(hyps, refs, target))
    directions = [score for row in result.bleu.values() for score in row.values()]
    assert result.mean_bleu == pytest.approx(sum(directions) / 6)
    assert "tok:zh" in result.signatures["zh"]


def test_the_recheck_reads_the_same_utterances_without_drafts(model, rows, speak):
    result = evaluate_dev(model, model.tokenizer, rows, DevConfig(drafter="kvspn"), speak=speak)
    assert result.recheck is not None
    assert result.recheck.utterances == 21
    assert result.recheck.equal == 1
    assert result.recheck.undrafted_passes_per_token == 1
    assert result.recheck.drafted_passes_per_token == pytest.approx(
        result.decode.passes / result.decode.tokens, abs=1e-4
    )
    figures = result.figures()
    assert set(figures["acceptance"]) == {"kvspn"}
    assert figures["passes_per_token"] <= 1


def test_beams_score_what_each_search_finds_alone(model, rows, speak):
    result = evaluate_dev(model, model.tokenizer, rows[:1], DevConfig(beams=3), speak=speak)
    assert len(result.texts) == 9
    config = BeamConfig(3)
    for text in result.texts:
        prompt, audio = model.prompt(text.target, None), speak(rows[0], text.source).audio
        slots, memory = model.allocate(3), model.encode([audio])[0]
        caches = [slots.open(memory) for _ in range(3)]
        limit = EngineConfig().limit(model.max_tokens, prompt, len(audio), model.tokens_per_second(text.target))
        found = converse_beam(model, beam(prompt, (), caches, config, eot=model.eot, limit=limit))
        assert text.hypothesis == model.tokenizer.decode(found[0].hypothesis.tokens).strip()
    assert result.recheck is not None
    assert result.recheck.equal == 1
    assert result.decode.by_drafter["kvspn"][0] > 0
    assert result.busy_s > 0


def test_languages_and_rows_can_be_chosen(model, rows, speak):
    config = DevConfig(sources=("de",), targets=("en", "zh"), rows=3, recheck=0)
    result = evaluate_dev(model, model.tokenizer, rows, config, speak=speak)
    assert (result.rows, result.utterances, len(result.texts)) == (3, 3, 6)
    assert result.error_rate == {}
    assert list(result.bleu) == ["de"]
    assert result.recheck is None
    only_transcript = DevConfig(sources=("de",), targets=("de",), rows=1, recheck=0)
    result = evaluate_dev(model, model.tokenizer, rows, only_transcript, speak=speak)
    assert result.mean_bleu is None
    assert set(result.error_rate) == {"de"}


def test_a_sample_is_spread_evenly_and_always_the_same():
    assert sample(range(10), 5) == [0, 2, 4, 6, 8]
    assert sample(range(10), 3) == [0, 3, 6]
    assert sample(range(3), 9) == sample(range(3), None) == [0, 1, 2]


def test_what_cannot_be_evaluated_is_refused(model, rows, speak):
    with pytest.raises(BadConfig, match="no rows"):
        evaluate_dev(model, model.tokenizer, [], speak=speak)
    with pytest.raises(BadConfig, match=r"'fr'.* en, de, zh in common"):
        evaluate_dev(model, model.tokenizer, rows, DevConfig(targets=("fr",)), speak=speak)
    with pytest.raises(BadConfig, match="rows is 0"):
        DevConfig(rows=0)
    with pytest.raises(BadConfig, match="beams is 0"):
        DevConfig(beams=0)
    with pytest.raises(BadConfig, match="unknown drafter 'kvsp'"):
        evaluate_dev(model, model.tokenizer, rows, DevConfig(drafter="kvsp"), speak=speak)


def test_acceptance_is_per_drafter():
    stats = DecodeStats(3, 8, 6, 5, {"echo": (4, 4), "kvspn": (2, 1), "ngram": (0, 0)})
    assert acceptance(stats) == {"echo": 1.0, "kvspn": 0.5, "ngram": 0.0}


def test_utterances_longer_than_the_model_are_read_as_far_as_it_goes_and_counted(model, rows, speak):
    def linger(row, language):
        utterance = speak(row, language)
        extra = np.zeros(model.max_samples, dtype=np.float32)
        return replace(utterance, audio=np.concatenate([utterance.audio, extra])) if row.id == "0" else utterance

    result = evaluate_dev(model, model.tokenizer, rows[:2], DevConfig(recheck=0), speak=linger)
    assert result.cut == result.figures()["cut"] == 3
    assert len(result.texts) == 2 * 3 * 3


def test_without_tables_the_sentences_of_the_package_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dev_rows(None) == own_sentences()
    (tmp_path / "data" / "text").mkdir(parents=True)
    (tmp_path / "data" / "text" / "massive_dev.tsv").write_text("id\ten\tde\n1\tyes\tja\n", encoding="utf-8")
    assert [row.texts for row in dev_rows(None)] == [{"en": "yes", "de": "ja"}]
    with pytest.raises(BadConfig, match="there is no table at"):
        dev_rows(tmp_path / "nowhere")
