"""The demo's sentences are new to any model that was trained on the public tables."""

import itertools
import json
import re
from pathlib import Path

import pytest
import soundfile

from streamtrans.corpus import normalise, own_sentences, parse_template, read_table, simplify

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "streamtrans" / "demo"
TABLES = ROOT.parent / "shared" / "data" / "text"


def bare(text, language):
    """What two spellings of one sentence share: its letters."""
    letters = re.sub(r"[\W_]", "", text.lower())
    return simplify(letters) if language == "zh" else letters


@pytest.fixture(scope="module")
def plan():
    return json.loads((DEMO / "references.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sentences(plan):
    return {
        (language, bare(text, language)): text
        for sentence in plan["sentences"]
        for language, text in sentence["texts"].items()
    }


def test_every_sentence_has_all_languages_and_normal_form(plan):
    assert len(plan["sentences"]) == 8
    for sentence in plan["sentences"]:
        assert set(sentence["texts"]) == {"en", "zh", "de", "es", "fr", "it"}
        for language, text in sentence["texts"].items():
            assert normalise(text, language) == text


def test_the_spoken_languages_alternate(plan):
    assert [sentence["source"] for sentence in plan["sentences"]] == ["en", "es"] * 4


def test_the_times_lie_in_the_recording_with_pauses_between(plan):
    file = soundfile.info(DEMO / "speech.flac")
    assert file.samplerate == 16_000
    assert file.channels == 1
    times = [(sentence["start_ms"], sentence["end_ms"]) for sentence in plan["sentences"]]
    assert times[-1][1] < 1000 * file.duration
    assert all(1_199 <= after[0] - before[1] <= 2_000 for before, after in itertools.pairwise(times))
    assert (DEMO / "speech.flac").stat().st_size < 600_000


@pytest.mark.shared
def test_no_sentence_occurs_in_a_table(sentences):
    """Neither the demo's nor those that evaluations say where there is no table."""
    ours = {(language, bare(text, language)) for row in own_sentences() for language, text in row.texts.items()}
    ours |= sentences.keys()
    found = [
        f"{path.name} {row.id}: {text}"
        for path in sorted(TABLES.glob("*.tsv"))
        for row in read_table(path, on_error="skip", least=1)
        for language, text in row.texts.items()
        if (language, bare(text, language)) in ours
    ]
    assert found == []


@pytest.mark.shared
def test_no_template_can_be_filled_to_a_sentence(sentences):
    for row in read_table(TABLES / "massive_templates.tsv"):
        like = {key: text for key, text in sentences.items() if resembles(key, row)}
        template = parse_template(row) if like else None
        for (language, letters), text in like.items():
            if template is not None:
                parts = (piece_pattern(template, piece, language) for piece in template.pieces[language])
                assert not re.fullmatch("".join(parts), letters), f"template {row.id}: {text}"


def resembles(key, row):
    """Whether a sentence is the row with anything at all in its slots."""
    language, letters = key
    fixed = re.split(r"\[[^\]]*\]", row.texts[language])
    return re.fullmatch(".+".join(bare(part, language) for part in fixed), letters)


def piece_pattern(template, piece, language):
    if isinstance(piece, str):
        return bare(piece, language)
    names = [entry.names[language][0] for entry in template.choices[piece]]
    names = names or [template.kept[piece][language]]
    return "(?:" + "|".join(bare(name, language) for name in names) + ")"
