import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, DecodeStats, EngineClosed, SpeechEnded, SpeechStarted
from streamtrans.corpus.talks import Sentence
from streamtrans.engine import Engine, EngineConfig
from streamtrans.engine.stats import EngineStats
from streamtrans.evaluate import replay
from streamtrans.evaluate.logs import read_log
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.evaluate.plots import draw, family
from streamtrans.evaluate.report import DELAYS, QUALITY, averaged, direction_rows, markdown, rows
from streamtrans.evaluate.scoring import TalkRun, deal_out, one_line, score_direction, speech_starts_ms
from streamtrans.evaluate.settings import Setting, parse_values, read_settings
from streamtrans.evaluate.streaming import StreamingConfig, evaluate_streaming, targets_of, write_logs
from streamtrans.evaluate.together import Cost, replay_together
from streamtrans.segment import EndpointRules
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.toy import ToyModel, toy_audio
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Tokenizer, train_tokenizer

SPELLER = Tokenizer(train_tokenizer(["wake me up", "réveille-moi", "星期五早上九点"] * 4, 330, ["de", "zh"]))
RULES = EndpointRules(
    min_speech_ms=64, min_silence_ms=200, pre_roll_ms=64, padding_ms=64, max_segment_ms=1_800, cut_search_ms=500
)
SPANS = [(4_000, 40_000), (46_000, 60_000)]


def toy_engine(spans=tuple(SPANS)):
    return Engine(ToyModel(), lambda _: ScriptedVad(spans), EngineConfig(slots=8))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 4), st.sampled_from(["live", "stable", "final"]), st.sampled_from([160, 480])),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([800, 1_600, 7_000]),
)
def test_many_sessions_at_once_say_what_each_says_alone(streams, chunk):
    recordings = [
        (
            SessionConfig(("de", "zh"), endpoints=RULES, mode=mode, reading_interval_ms=interval),
            toy_audio(seconds, seed),
        )
        for seed, (seconds, mode, interval) in enumerate(streams)
    ]
    heard = []
    with toy_engine() as engine:
        together = replay_together(recordings, SPELLER, engine, chunk=chunk, heard=heard.append)
    assert sum(heard) == sum(len(audio) for _, audio in recordings)
    for (config, audio), played in zip(recordings, together, strict=True):
        with toy_engine() as engine:
            alone = replay(config, SPELLER, engine, audio, chunk=chunk)
        assert played.replay == alone
        costs = list(played.costs.values())
        assert sum((cost.decode for cost in costs), DecodeStats()) == alone.stats.decode
        assert sum(cost.partials + cost.finals for cost in costs) == 2 * alone.stats.readings
        assert sum(cost.partial_passes + cost.final_passes for cost in costs) == alone.stats.decode.passes


def test_what_fails_is_counted_and_a_closed_engine_ends_it():
    def broken(job, target):
        raise BadConfig("never")

    config = SessionConfig(("de",), endpoints=RULES)
    [played] = replay_together([(config, toy_audio(4))], SPELLER, InstantEngine(broken, ScriptedVad(SPANS)))
    assert played.replay.stats.failures > 0
    assert all(not final.text for final in played.replay.finals)
    closed = InstantEngine(broken, ScriptedVad(SPANS))
    closed.close()
    with pytest.raises(EngineClosed):
        replay_together([(config, toy_audio(4))], SPELLER, closed)
    with pytest.raises(BadConfig, match="chunk is 0"):
        replay_together([(config, toy_audio(1))], SPELLER, closed, chunk=0)


# Scores ---------------------------------------------------------------------------------------------------


def talk(tmp_path, *, references=None, sentences=None):
    soundfile.write(tmp_path / "a.wav", np.zeros(64_000), 16_000)
    if sentences is None:
        sentences = (
            Sentence(0, 16_000, {"de": "mach das licht in der küche an"}),
            Sentence(17_600, 32_000, {"de": "und den herd im keller aus"}),
            Sentence(48_000, 64_000, {"de": "wie wird das wetter morgen"}),
        )
    whole = " ".join(each.texts["de"] for each in sentences)
    return Talk("a", tmp_path / "a.wav", "en", {"de": whole} if references is None else references, sentences)


def said(*texts, at=1_600, language="de"):
    """One segment per text, shown word by word."""
    timed = []
    for segment, text in enumerate(texts):
        start = segment * 20_000
        timed.append((start + at, SpeechStarted(segment, start)))
        words = text.split()
        for count in range(1, len(words) + 1):
            shown = " ".join(words[:count])
            end = start + 2_000 * count
            timed.append((end, Caption(segment, count, language, "", shown, False, start, end, end)))
        end = start + 18_000
        timed.append((end, SpeechEnded(segment, end)))
        timed.append((end, Caption(segment, len(words) + 1, language, text, "", True, start, end, end)))
    return tuple(timed)


def test_a_perfect_text_scores_100_and_its_waits_are_known(tmp_path):
    subject = talk(tmp_path)
    texts = ("mach das licht in der küche an\nund den herd", "im keller aus", "wie wird das wetter morgen")
    cost = Cost().read(DecodeStats(6, 9, 4, 3), last=False).read(DecodeStats(2, 9, 9, 9), last=True)
    run = TalkRun(subject, ("de",), said(*texts), 64_000, {"de": cost}, {"de": texts})
    found = score_direction("en", "de", [run])
    assert found["bleu"] == found["talk_bleu"] == found["offline_bleu"] == 100
    assert found["bleu_lost"] == found["normalized_erasure"] == 0
    assert found["chrf"] == 100
    assert found["problems"] == []
    assert found["first_caption_ms"] == 125
    assert (found["segments"], found["words"], found["reference_words"]) == (3, 18, 18)
    assert (found["passes_per_partial"], found["passes_per_final"], found["acceptance"]) == (6, 2, 0.9231)
    for name in ("stream_laal_ms", "long_yaal_ms", "al_ms", "laal_ms", "dal_ms", "commit_lag_ms"):
        assert isinstance(found[name], float), name
    assert speech_starts_ms(subject) == [0, 3_000]


def test_sentences_are_scored_each_by_itself(tmp_path):
    exchanged = "wie wird das wetter morgen und den herd im keller aus mach das licht in der küche an"
    run = TalkRun(talk(tmp_path), ("de",), said(exchanged), 64_000)
    found = score_direction("en", "de", [run])
    assert found["bleu"] < found["talk_bleu"]
    assert found["offline_bleu"] is None is found["bleu_lost"]
    assert found["passes_per_partial"] is None is found["acceptance"]


def test_silence_and_empty_references_are_reported(tmp_path):
    mute = TalkRun(talk(tmp_path), ("de",), (), 64_000)
    found = score_direction("en", "de", [mute])
    assert found["bleu"] == 0
    assert found["normalized_erasure"] is None is found["stream_laal_ms"] is found["first_caption_ms"]
    assert "a: nothing was written in de" in found["problems"]

    bare = TalkRun(talk(tmp_path, references={"de": " "}, sentences=()), ("de",), said("hallo du"), 64_000)
    found = score_direction("en", "de", [bare])
    assert found["bleu"] is None is found["chrf"] is found["stream_laal_ms"]
    assert found["talks"] == 0
    assert "reference in de is empty" in found["problems"][0]
    assert score_direction("de", "de", [bare])["wer"] is None


def test_transcripts_have_an_error_rate_and_are_averaged_apart(tmp_path):
    run = TalkRun(talk(tmp_path, references={"de": "eins zwei"}, sentences=()), ("de",), said("eins drei"), 64_000)
    transcript = score_direction("de", "de", [run])
    assert transcript["wer"] == 0.5
    translation = {**score_direction("en", "de", [run]), "bleu": 10.0, "problems": ["here"]}
    setting = {"setting": "s", "values": {}, "audio_s": 4.0, "directions": [transcript, translation]}
    report = averaged(setting)
    assert report["average"]["bleu"] == 10
    assert report["transcripts"]["wer"] == 0.5
    assert "wer" not in report["average"]
    assert report["problems"][-1] == "here"
    assert direction_rows(report, QUALITY)[0][:2] == ["de→de", "50% wrong"]
    assert rows([report], QUALITY)[0][:2] == ["s", 10.0]
    text = markdown({"settings": [report], "command": "streamtrans evaluate"}, ["curve.png"])
    assert "| en→de | 10 |" in text
    assert "- here" in text
    assert "](curve.png)" in text


def test_times_are_shown_in_seconds(tmp_path):
    setting = {"setting": "s", "values": {}, "audio_s": 4.0, "directions": [], "problems": []}
    line = rows([{**setting, "average": {"stream_laal_ms": 1234.0}, "transcripts": {}}], DELAYS)[0]
    assert line[1] == 1.23


def test_lines_and_words_are_dealt_out_with_their_spaces():
    assert one_line(["eins\nzwei ", "", "drei"], "de") == "eins zwei drei"
    assert one_line(["一\n二", "三"], "zh") == "一二三"
    assert deal_out("a b  c d", ["a b", "", "c d"], "en") == ["a b", "", "c d"]
    assert deal_out("播放 hello world 吧", ["播放 hello world", "吧"], "zh") == ["播放 hello world", "吧"]
    assert deal_out("", ["a", "b"], "en") == ["", ""]


# Settings -------------------------------------------------------------------------------------------------


def test_settings_are_read_and_become_sessions(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        '[calm]\nmode = "live"\npolicy = "hold"\npolicy_n = 3\n'
        '[calm.endpoints]\nmax_segment_ms = 8000\n[final]\nmode = "final"\n'
    )
    calm, final = read_settings(path)
    session = calm.session(("de", "fr"), "en", RULES)
    assert (session.policy, session.policy_n, session.source) == ("hold", 3, "en")
    assert session.endpoints.max_segment_ms == 8_000
    assert session.endpoints.min_silence_ms == RULES.min_silence_ms
    assert final.session(("de",), None).mode == "final"
    assert parse_values(["policy=hold", "policy_n=3", "reading_interval_ms = 240"]) == {
        "policy": "hold",
        "policy_n": 3,
        "reading_interval_ms": 240,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is none"),
        ("mode = 'live'", "mode stands outside"),
        ("[a", "no TOML"),
        ("[a]\npolici = 'hold'", "setting 'a': there is no 'polici': did you mean 'policy'"),
        ("[a]\ntargets = ['de']", "there is no 'targets'"),
        ("[a]\nmode = 'lively'", "setting 'a': unknown mode 'lively'"),
        ("[a.endpoints]\nmin_silence = 3", "did you mean 'min_silence_ms'"),
        ("[a]\nreading_interval_ms = 'fast'", "wrong type"),
    ],
)
def test_bad_settings_are_refused(tmp_path, content, message):
    path = tmp_path / "settings.toml"
    path.write_text(content)
    with pytest.raises(BadConfig, match=message):
        read_settings(path)


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(BadConfig, match="can't be read"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(BadConfig, match="no setting; write name=value"):
        parse_values(["policy"])
    with pytest.raises(BadConfig, match="each its own name"):
        StreamingConfig((Setting("a", {}), Setting("a", {})))
    with pytest.raises(BadConfig, match="together is 0"):
        StreamingConfig(together=0)
    with pytest.raises(BadConfig, match="no references in 'fr'"):
        targets_of(talk(tmp_path), ("fr",), ("de", "fr"))
    with pytest.raises(BadConfig, match="knows none"):
        targets_of(talk(tmp_path), (), ("fr",))


# All of it ------------------------------------------------------------------------------------------------


def echo(job, target):
    """Say the more, the more was heard; the prefix stays."""
    count = len(job.audio) // 8_000
    return hypothesis([*target.prefix, *range(40, 40 + max(0, count - len(target.prefix)))])


class Counting(InstantEngine):
    """An instant engine with the counters that an evaluation asks for."""

    stats = EngineStats()


def test_talks_are_played_in_every_setting_and_logged(tmp_path):
    for name, seconds in (("x", 4), ("y", 3)):
        soundfile.write(tmp_path / f"{name}.wav", toy_audio(seconds), 16_000)
    manifest = tmp_path / "MANIFEST.tsv"
    manifest.write_text("audio\tlanguage\tde\tzh\tfr\nx.wav\tde\teins zwei\t一二\tun\ny.wav\tde\tdrei\t三\tdeux\n")
    talks = read_talks(manifest)
    config = StreamingConfig((Setting("live", {}), Setting("final", {"mode": "final"})), together=1)
    engine, steps, finished = Counting(echo, ScriptedVad(SPANS)), [], []
    results = evaluate_streaming(
        talks,
        SPELLER,
        engine,
        config,
        languages=("de", "zh"),
        endpoints=RULES,
        progress=lambda *step: steps.append(step),
        done=finished.append,
    )
    assert finished == results
    assert steps[-1] == ("final", 2 * 7 * 16_000, 2 * 7 * 16_000)
    live, final = [averaged(result.figures()) for result in results]
    assert [(each["source"], each["target"]) for each in live["directions"]] == [("de", "de"), ("de", "zh")]
    assert final["directions"][0]["partials"] == 0 < live["directions"][0]["partials"]
    assert final["directions"][1]["bleu"] == final["directions"][1]["offline_bleu"]
    for run in results[1].runs:
        finals = [event.text for _, event in run.captions("de") if event.final]
        assert finals == list(run.offline["de"])
        assert len(finals) == len(run.segments) > 0
    write_logs(results[0], tmp_path / "log")
    log = read_log(tmp_path / "log" / "live" / "x.jsonl")
    assert not log.problems
    assert log.timed() == results[0].runs[0].timed
    assert (tmp_path / "log" / "live" / "de-zh.omnisteval.jsonl").is_file()
    assert json.loads(json.dumps(live)) == live


def test_curves_are_drawn_where_there_are_two_points(tmp_path):
    pytest.importorskip("matplotlib")

    def setting(name, values, **figures):
        return {"setting": name, "values": values, "average": figures}

    one = setting("a", {"policy": "hold"}, stream_laal_ms=900.0, bleu=12.0, normalized_erasure=0.1, offline_bleu=13.0)
    two = setting("b", {"mode": "final"}, stream_laal_ms=2900.0, bleu=13.0)
    assert [path.name for path in draw([one, two], tmp_path)] == ["quality-latency.png"]
    assert (tmp_path / "quality-latency.png").read_bytes()[:4] == b"\x89PNG"
    assert draw([one], tmp_path) == []
    assert (family(one), family(two)) == ("live, hold", "final")


def test_the_settings_that_are_compared_are_sessions():
    found = read_settings(Path(__file__).parents[2] / "benchmarks" / "settings.toml")
    assert found[0].session(("de",), "en").mode == "final"
    assert {each.values["mode"] for each in found} == {"final", "stable", "live"}
