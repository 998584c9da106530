import numpy as np
import pytest
import torch

from streamtrans.core import BadModel
from streamtrans.model.features import FeatureConfig, LogMel, mel_filters


def test_fixed_scaling_does_not_look_at_the_rest_of_the_clip() -> None:
    mel = LogMel(FeatureConfig(hop=320, scaling="fixed"))
    rng = np.random.default_rng(0)
    # Ten thousand times louder later on: more than the eight decades of power that clip scaling keeps.
    quiet = torch.from_numpy(rng.standard_normal(16_000).astype(np.float32) * 1e-2)
    loud = torch.cat([quiet, quiet * 10_000])
    short, long = mel(quiet[None]), mel(loud[None])
    torch.testing.assert_close(short[..., :48], long[..., :48])
    clipped = LogMel(FeatureConfig(hop=320, scaling="clip"))
    assert not torch.allclose(clipped(quiet[None])[..., :48], clipped(loud[None])[..., :48])


@pytest.mark.parametrize("samples", [1, 399, 400, 640, 16_000])
def test_there_is_always_a_frame(samples: int) -> None:
    mel = LogMel(FeatureConfig(hop=320, scaling="fixed"))(torch.zeros(1, samples))
    assert mel.shape[:2] == (1, 80)
    assert mel.shape[2] == max(1, max(samples, 400) // 320)
    assert torch.isfinite(mel).all()


def test_filters_cover_the_band_and_match_transformers() -> None:
    from transformers.audio_utils import mel_filter_bank

    ours = mel_filters(80, 400)
    theirs = mel_filter_bank(201, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    torch.testing.assert_close(ours, torch.from_numpy(theirs.T.copy()).double(), atol=1e-8, rtol=1e-6)


def test_unknown_scaling_is_refused() -> None:
    with pytest.raises(BadModel, match="must be 'clip' or 'fixed'"):
        FeatureConfig(scaling="loud")
