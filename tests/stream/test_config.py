import pytest

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.foreign import Chosen
from streamtrans.stream import POLICIES, SessionConfig, load_policy


def test_languages_are_kept_canonical():
    config = SessionConfig(targets=("zh-CN", "pt_BR"), source="EN-us")
    assert config.targets == ("zh", "pt")
    assert config.source == "en"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"targets": ()}, "one or more language codes"),
        ({"targets": "de"}, "one or more language codes"),
        ({"targets": ("zh", "zh-TW")}, "twice"),
        ({"mode": "lively"}, "unknown mode 'lively'; use one of live, stable, final"),
        ({"policy": "agrement"}, "did you mean 'agreement'"),
        ({"policy": Chosen("nowhere.at.all:Policy")}, "can't be imported"),
        ({"policy": Chosen("streamtrans.stream.policies:Nothing")}, "can't be imported"),
        ({"policy": "agreement", "policy_n": 0}, "use 1 or more"),
        ({"policy": "hold", "policy_n": -1}, "use 0 or more"),
        ({"reading_interval_ms": 0}, "reading_interval_ms is 0"),
        ({"min_first_reading_ms": -1}, "min_first_reading_ms is -1"),
        ({"detect_limit_ms": 0}, "detect_limit_ms is 0"),
        ({"max_behind_ms": 10}, "max_behind_ms is 10"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, problem):
    with pytest.raises(BadConfig, match=problem):
        SessionConfig(**{"targets": ("de",)} | settings)


@pytest.mark.parametrize("settings", [{"targets": ("xx",)}, {"targets": ("de",), "source": "xx"}])
def test_unknown_languages_are_refused(settings):
    with pytest.raises(UnsupportedLanguage, match="'xx'"):
        SessionConfig(**settings)


def test_a_policy_may_come_from_elsewhere():
    assert type(load_policy(Chosen(POLICIES["hold"]), 3)) is type(load_policy("hold", 3))
