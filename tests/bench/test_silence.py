import numpy as np
import pytest

from streamtrans.bench.silence import SOUNDS, SilenceConfig, alarms, band, committed, measure, played
from streamtrans.core import BadConfig, Hypothesis, Job, Target
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine
from streamtrans.vad import EnergyVad
from tests.fakes import Words

SHORT = SilenceConfig(minutes=0.1, levels_db=(-40.0, -20.0))


def test_every_sound_at_every_level() -> None:
    sounds = list(played(SHORT))
    assert [(name, level) for name, level, _ in sounds] == [
        ("silence", -np.inf),
        *((name, level) for name in SOUNDS[1:] for level in SHORT.levels_db),
    ]
    for _, level, audio in sounds:
        assert audio.shape == (96_000,)
        assert audio.dtype == np.float32
        power = np.mean(np.square(audio, dtype=np.float64))
        assert 10 * np.log10(power + 1e-12) == pytest.approx(max(level, -120), abs=1.0)


def test_equal_seeds_sound_equal() -> None:
    assert np.array_equal(band(40_000, 3), band(40_000, 3))
    assert not np.array_equal(band(40_000, 3), band(40_000, 4))


def test_a_recording_is_repeated_under_its_name() -> None:
    recording = np.sin(np.arange(1_000)).astype(np.float32)
    config = SilenceConfig(0.01, ("fan",), (-20.0,))
    [(name, _, audio)] = played(config, {"fan": recording})
    assert name == "fan"
    assert np.allclose(audio[:1_000], audio[1_000:2_000])
    with pytest.raises(BadConfig, match="unknown sound 'fan'; use silence, white"):
        list(played(config))


def test_what_a_detector_takes_for_speech_is_counted() -> None:
    assert alarms(EnergyVad(), np.zeros(160_000, np.float32))["segments_per_10_min"] == 0
    beeps = np.zeros(16_000 * 30, np.float32)
    for start in range(0, len(beeps), 48_000):
        beeps[start : start + 16_000] = 0.2 * np.sin(np.arange(16_000))
    found = alarms(EnergyVad(), beeps)
    assert found["segments_per_10_min"] == 200
    assert found["windows_alarm"] == pytest.approx(1 / 3, abs=0.02)
    assert 200 < found["segments_s_per_10_min"] < 300


def test_characters_that_stay_are_counted() -> None:
    def answer(job: Job, target: Target) -> Hypothesis:
        return Hypothesis((1, 2), (-0.1, -0.1))

    engine = InstantEngine(answer, EnergyVad())
    session = SessionConfig(("de",), vad="energy")
    beep = np.zeros(16_000 * 4, np.float32)
    beep[16_000:32_000] = 0.2 * np.sin(np.arange(16_000))
    spoken = committed(session, Words(), engine, beep)
    assert spoken["segments"] == 1
    assert spoken["committed"] == len("".join(spoken["texts"]).replace(" ", "")) > 0
    quiet = committed(session, Words(), engine, np.zeros(16_000 * 4, np.float32))
    assert (quiet["segments"], quiet["committed"], quiet["shown"], quiet["texts"]) == (0, 0, 0, [])


def test_one_line_per_sound_level_and_detector() -> None:
    done: list[int] = []
    lines = measure(
        SilenceConfig(0.05, ("silence", "white"), (-30.0, -20.0)),
        {"energy": EnergyVad()},
        {"energy": lambda audio: {"committed": len(audio)}},
        progress=done.append,
    )
    assert [(line["sound"], line["level_db"], line["vad"]) for line in lines] == [
        ("silence", None, "energy"),
        ("white", -30.0, "energy"),
        ("white", -20.0, "energy"),
    ]
    assert all(line["committed"] == 48_000 for line in lines)
    assert done == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minutes": 0.0}, "minutes is 0.0; use more than 0"),
        ({"sounds": ()}, "must name one at least"),
        ({"levels_db": (3.0,)}, "levels_db has 3.0; 0 is full scale"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        SilenceConfig(**settings)  # type: ignore[arg-type]
