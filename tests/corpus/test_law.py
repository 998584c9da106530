"""The room's law: the same seed draws the same sentences and voices, and none of an evaluation's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.corpus import EVALUATION_VOICES, Mixture, Row, Voice, random_voice

ROWS = [Row(str(number), {"en": f"{word} please", "de": f"{word} bitte"}) for number, word in enumerate("abcdefgh")]
TEMPLATES = [Row("t", {"en": "call [person : john]", "zh": "打电话给 [person : 李雷]"})]
MIXTURE = Mixture([ROWS, TEMPLATES], [1, 1])


def draw(seed: int) -> list[tuple[Row, Voice]]:
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(5):
        row = MIXTURE.sample(rng)
        drawn.append((row, random_voice(next(iter(row.texts)), rng)))
    return drawn


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63))
def test_equal_seeds_draw_equally_and_never_what_evaluates(seed: int) -> None:
    drawn = draw(seed)
    assert drawn == draw(seed)
    assert not {voice.variant for _, voice in drawn} & {variant for variant, _, _ in EVALUATION_VOICES}


def test_the_room_is_imported_without_torch_or_extras() -> None:
    code = (
        "import sys; import streamtrans.corpus; "
        "sys.exit(bool({'torch', 'espeakng_loader', 'pypinyin', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
