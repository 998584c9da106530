import numpy as np
import pytest

from streamtrans.audio import AudioChunk
from streamtrans.core import BadAudio


def test_a_chunk_knows_where_it_ends() -> None:
    assert AudioChunk(np.zeros(160, np.float32), start=40).end == 200


@pytest.mark.parametrize("samples", [np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(4, np.int16)])
def test_other_samples_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(BadAudio, match="one-dimensional float32"):
        AudioChunk(samples, 0)


def test_a_chunk_before_the_stream_is_refused() -> None:
    with pytest.raises(BadAudio, match="sample 0 or later; got -1"):
        AudioChunk(np.zeros(4, np.float32), -1)
