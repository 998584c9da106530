from pathlib import Path

import pytest

from tests.checkpoints import make_whisper_m2m


@pytest.fixture(scope="session")
def m2m_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m2m")
    make_whisper_m2m(folder)
    return folder
