import json
from pathlib import Path

import pytest
import torch

from streamtrans.compress import convert, kept_layers
from streamtrans.core import BadConfig, BadModel, UnsupportedLanguage
from streamtrans.model.config import NetworkConfig
from streamtrans.model.loading import load_model, read_tensors
from streamtrans.model.network import Network, parameters_by_part
from tests.checkpoints import make_whisper, make_whisper_m2m

SHAPE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 6,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 80,
}
LANGUAGES = ("en", "de", "zh")


def test_medium_shape_has_the_parameters_of_the_paper() -> None:
    medium = {
        "d_model": 1024,
        "encoder_layers": 24,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "decoder_layers": 12,
        "decoder_attention_heads": 16,
        "decoder_ffn_dim": 4096,
        "vocab_size": 51865,
        "text_encoder_layers": 6,
        "speculator_blocks": 3,
    }
    with torch.device("meta"):
        counts = parameters_by_part(Network(NetworkConfig(**medium)))
    assert counts["speech_translation"] / 1e6 == pytest.approx(560.8, abs=0.05)
    assert counts["speculator"] / 1e6 == pytest.approx(44.09, abs=0.005)
    assert counts["with_speculator"] / 1e6 == pytest.approx(604.9, abs=0.05)


def test_kept_layers_are_even_with_first_and_last() -> None:
    assert kept_layers(24, 12) == [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]
    assert kept_layers(6, 6) == [0, 1, 2, 3, 4, 5]
    assert kept_layers(5, 2) == [0, 4]
    with pytest.raises(BadConfig, match="of 4 decoder layers 2 to 4 can be kept, not 5"):
        kept_layers(4, 5)


def test_converted_checkpoint_inherits_what_it_kept_and_runs(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    make_whisper(tmp_path / "whisper", **SHAPE)
    counts = convert(
        tmp_path / "whisper",
        tmp_path / "m2m",
        decoder_layers=4,
        text_encoder_layers=3,
        speculator_blocks=2,
        languages=LANGUAGES,
    )
    old, new = read_tensors(tmp_path / "whisper"), read_tensors(tmp_path / "m2m")
    for place, origin in enumerate(kept_layers(6, 4)):
        for part in ("self_attn.q_proj.weight", "encoder_attn.k_proj.weight", "fc2.bias"):
            assert torch.equal(
                new[f"model.decoder.layers.{place}.{part}"], old[f"model.decoder.layers.{origin}.{part}"]
            )
    assert torch.equal(new["text_encoder.layers.2.fc1.weight"], old["model.decoder.layers.2.fc1.weight"])
    assert torch.equal(new["model.encoder.conv1.weight"], old["model.encoder.conv1.weight"])
    assert counts["speculator"] == sum(t.numel() for name, t in new.items() if name.startswith("speculator."))
    model = load_model(tmp_path / "m2m", device="cpu")
    assert model.languages == LANGUAGES
    assert model.has_speculator
    assert not model.manner.padded


def test_alignment_heads_follow_their_layers(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    make_whisper(tmp_path / "whisper", **SHAPE)
    file = tmp_path / "whisper" / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"alignment_heads": [[0, 1], [1, 0], [5, 1]]}))
    convert(tmp_path / "whisper", tmp_path / "m2m", decoder_layers=2, speculator_blocks=2, languages=LANGUAGES)
    assert load_model(tmp_path / "m2m", device="cpu").manner.alignment_heads == ((0, 1), (1, 1))


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    for name in ("whisper", "m2m"):
        (tmp_path / name).mkdir()
    make_whisper(tmp_path / "whisper", **SHAPE)
    make_whisper_m2m(tmp_path / "m2m")
    with pytest.raises(BadModel, match="takes a stock Whisper checkpoint"):
        convert(tmp_path / "m2m", tmp_path / "out")
    with pytest.raises(BadConfig, match="exists already"):
        convert(tmp_path / "whisper", tmp_path / "m2m")
    with pytest.raises(BadConfig, match="2 to 6 can be kept, not 12"):
        convert(tmp_path / "whisper", tmp_path / "out")
    with pytest.raises(UnsupportedLanguage, match="no language 'fr'"):
        convert(tmp_path / "whisper", tmp_path / "out", decoder_layers=4, languages=("fr",))
    with pytest.raises(BadModel, match="cannot be split into 3 equal groups"):
        convert(tmp_path / "whisper", tmp_path / "out", decoder_layers=4, languages=LANGUAGES)
    assert not (tmp_path / "out").exists()
