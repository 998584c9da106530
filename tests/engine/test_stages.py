"""What a translator is given to read."""

from types import SimpleNamespace

import pytest

from streamtrans.core import Hypothesis, Job, Target
from streamtrans.engine.stages import readable, to_translate
from streamtrans.engine.work import Asked, Plan
from streamtrans.model.api import Written


@pytest.mark.parametrize(
    ("heard", "read"),
    [
        ("ASK NOT!", "Ask not!"),
        ("НЕ СПРАШИВАЙ!", "Не спрашивай!"),
        ("NATO", "NATO"),
        ("I", "I"),
        ("The NATO and the EU.", "The NATO and the EU."),
        ("不要问！", "不要问！"),
        ("", ""),
    ],
)
def test_what_was_called_out_is_read_as_a_sentence(heard, read):
    assert readable(heard) == read
    vocabulary = SimpleNamespace(decode=lambda tokens: f" {heard}" if tokens else "")
    work = SimpleNamespace(
        transcript=Hypothesis((7,), (0.0,)),
        job=Job(0, 0, 0, last=True, audio=None, targets=(), source="en"),
        plan=Plan((), (Asked(0, Target("de")), Asked(1, Target("es")))),
    )
    assert to_translate(work, vocabulary) == [Written(read, "en", "de"), Written(read, "en", "es")]
