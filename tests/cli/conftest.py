import contextlib

import numpy as np
import pytest
import soundfile
import torch

from streamtrans.cli import main
from tests.checkpoints import make_whisper_m2m


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A tiny random whisperM2M of en, de and zh."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    make_whisper_m2m(folder, max_source_positions=300)
    return folder


@pytest.fixture
def run(capsys):
    """Run the program; return its status, standard output and standard error."""

    def call(*arguments):
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return call


def sound(*pieces, rate=16_000):
    """Alternate silent and loud pieces of the given seconds."""
    random = np.random.default_rng(0)
    return np.concatenate(
        [random.normal(0, 0.2 if index % 2 else 0, round(s * rate)) for index, s in enumerate(pieces)]
    ).astype(np.float32)


@pytest.fixture
def recordings(tmp_path):
    """Good and bad files, by name."""
    speech = sound(0.3, 1.2, 0.8, 0.9, 0.7)
    soundfile.write(tmp_path / "talk.wav", speech, 16_000)
    soundfile.write(tmp_path / "phone.wav", np.stack([speech[::2]] * 2, axis=1), 8_000)
    holed = speech.copy()
    holed[20_000] = np.nan
    soundfile.write(tmp_path / "holed.wav", holed, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "still.wav", np.zeros(16_000), 16_000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam,\n" * 20)
    with contextlib.chdir(tmp_path):
        yield tmp_path
