import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from streamtrans.wire import (
    ENCODINGS,
    MODES,
    BadFields,
    ClientMessage,
    Resume,
    StreamOptions,
    config_message,
    options_from_proto,
    options_to_proto,
    resume_from_proto,
)

COUNTS = st.none() | st.integers(1, 2**31 - 1)
TAGS = st.sampled_from(["de", "zh-CN", "pt-BR", "en"])
OPTIONS = st.builds(
    StreamOptions,
    targets=st.lists(TAGS, min_size=1).map(tuple),
    encoding=st.sampled_from(list(ENCODINGS)),
    sample_rate_hertz=st.integers(1, 200_000),
    channels=st.integers(1, 8),
    source_languages=st.lists(TAGS).map(tuple),
    mode=st.sampled_from(list(MODES)),
    min_interval_ms=COUNTS,
    vad=st.none() | st.sampled_from(["silero", "energy"]),
    min_silence_ms=COUNTS,
    max_segment_ms=COUNTS,
    resumable=st.booleans(),
    word_times=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(OPTIONS)
def test_options_travel(options):
    assert options_from_proto(options_to_proto(options)) == options


def config(**changes):
    message = options_to_proto(StreamOptions(targets=("de",)))
    for path, value in changes.items():
        *parents, last = path.split("__")
        owner = message
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, value)
    return message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"audio_format__encoding": 0}, "audio_format.encoding"),
        ({"audio_format__encoding": 77}, "audio_format.encoding"),
        ({"audio_format__sample_rate_hertz": 0}, "audio_format.sample_rate_hertz"),
        ({"audio_format__channels": -1}, "audio_format.channels"),
        ({"mode": 9}, "mode"),
        ({"partials__min_interval_ms": -5}, "partials.min_interval_ms"),
        ({"endpointing__min_silence_ms": -5}, "endpointing.min_silence_ms"),
        ({"endpointing__max_segment_ms": -5}, "endpointing.max_segment_ms"),
    ],
)
def test_each_wrong_field_is_named(changes, field):
    with pytest.raises(BadFields) as caught:
        options_from_proto(config(**changes))
    assert [path for path, _ in caught.value.fields] == [field]


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(BadFields) as caught:
        options_from_proto(config(audio_format__sample_rate_hertz=-1, mode=9))
    assert len(caught.value.fields) == 2


def test_targets_are_needed_named_and_counted():
    message = config()
    del message.targets[:]
    with pytest.raises(BadFields, match="at least one"):
        options_from_proto(message)
    message = options_to_proto(StreamOptions(targets=("de", " ")))
    with pytest.raises(BadFields, match=r"targets\[1\].language"):
        options_from_proto(message)
    message = options_to_proto(StreamOptions(targets=("de", "fr")))
    with pytest.raises(BadFields, match="at most 1"):
        options_from_proto(message, 1)
    message = options_to_proto(StreamOptions(targets=("de",), source_languages=("",)))
    with pytest.raises(BadFields, match=r"source_languages\[0\]"):
        options_from_proto(message)


def test_unspecified_values_take_defaults():
    message = config(mode=0, audio_format__channels=0)
    assert options_from_proto(message) == StreamOptions(targets=("de",))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (StreamOptions(("de",), encoding="mp3"), "encoding"),
        (StreamOptions(("de",), mode="loud"), "mode"),
        (StreamOptions(("de",), sample_rate_hertz=0), "sample_rate_hertz"),
        (StreamOptions(("de",), channels=2**31), "channels"),
        (StreamOptions(("de",), min_silence_ms=-1), "min_silence_ms"),
        (StreamOptions(("de",), erasure_budget=-0.1), "erasure_budget"),
        (StreamOptions(("de",), erasure_budget=math.nan), "erasure_budget"),
        (StreamOptions(("de",), latency_budget_ms=0), "latency_budget_ms"),
    ],
)
def test_options_without_a_form_on_the_wire_are_refused(options, field):
    with pytest.raises(BadFields) as caught:
        config_message(options)
    assert [path for path, _ in caught.value.fields] == [field]


@pytest.mark.parametrize("budget", [None, 0.0, 0.25])
def test_no_erasure_at_all_is_another_wish_than_none(budget):
    options = StreamOptions(("de",), erasure_budget=budget, latency_budget_ms=1_500)
    assert options_from_proto(options_to_proto(options)) == options


def test_budgets_out_of_range_are_refused():
    for field, value in (("erasure_budget", -1.0), ("erasure_budget", math.inf), ("latency_budget_ms", -5)):
        message = config()
        setattr(message, field, value)
        with pytest.raises(BadFields, match=field):
            options_from_proto(message)


def test_a_resume_token_is_seen():
    message = ClientMessage()
    message.config.resume.token, message.config.resume.last_event_sequence = "x", 7
    assert resume_from_proto(message.config) == Resume("x", 7)
    assert resume_from_proto(config()) is None


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"targets": "de"}, r"targets: 'de' is a string; give a tuple of languages, such as \('de',\)"),
        ({"targets": ("de",), "source_languages": "en"}, "source_languages: 'en' is a string"),
        ({"targets": ("de", 5)}, "targets: 5 is no language"),
        ({"targets": ("de",), "source_languages": [None]}, "source_languages: None is no language"),
    ],
)
def test_languages_are_tuples_of_strings(wish, problem):
    with pytest.raises(BadFields, match=problem):
        StreamOptions(**wish)


def test_a_list_of_languages_is_as_good():
    assert StreamOptions(["de"], source_languages=["en"]) == StreamOptions(("de",), source_languages=("en",))


@pytest.mark.parametrize("name", ["sample_rate_hertz", "channels", "min_interval_ms", "max_segment_ms"])
@pytest.mark.parametrize("value", [44_100.0, "16000"])
def test_numbers_are_whole(name, value):
    with pytest.raises(BadFields, match=f"{name}: {value!r} is no whole number"):
        config_message(StreamOptions(("de",), **{name: value}))
