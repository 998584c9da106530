"""The picture in docs/mic.md is what the program shows, and is made by a command."""

import importlib.util
from pathlib import Path

import numpy as np
import soundfile
from streamtrans_clients import mic

from streamtrans.client import TranslationClient
from tests.clients.conftest import tone

ROOT = Path(__file__).parents[2]


def tool():
    spec = importlib.util.spec_from_file_location("picture_mic", ROOT / "tools" / "picture_mic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_it_shows_columns_with_finals_and_what_may_change(running, tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.concatenate([tone(0.9), np.zeros(6_400)] * 6), 16_000)
    async with running() as address, TranslationClient(address) as client:
        options = mic.parser().parse_args(["--file", str(path), "--to", "de,zh", "--server", address])
        drawn = await tool().picture(client, options)
    assert drawn.startswith("<svg")
    text = drawn.replace("&#160;", " ")
    for shown in ("streamtrans-mic --to de,zh", " de ", " zh ", "w0", "Pause", "lag"):
        assert shown in text
    assert "@font-face" not in drawn


def test_the_document_has_one_and_it_is_small():
    text = (ROOT / "docs" / "mic.md").read_text(encoding="utf-8")
    assert "](mic.svg)" in text
    picture = (ROOT / "docs" / "mic.svg").read_text(encoding="utf-8")
    assert len(picture) < 60_000
    for shown in ("streamtrans-mic", "speech", "nano", "Pause"):
        assert shown in picture
