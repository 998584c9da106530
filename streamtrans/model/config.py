"""What a checkpoint folder says about its network, read from the Hugging Face files.

The keys are Whisper's own; whisperM2M adds those of the text encoder, of the speculator, and how the encoder hears.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrans.core import BadModel
from streamtrans.model.features import FeatureConfig


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shapes of a Whisper-like network; the names are those of ``config.json``."""

    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    vocab_size: int
    num_mel_bins: int = 80
    max_source_positions: int = 1500
    max_target_positions: int = 448
    text_encoder_layers: int = 0
    speculator_blocks: int = 0
    speculator_ffn_dim: int = 0
    speculator_input: str = "token"
    """What KVSPN's blocks start from: the newest ``token``, or, as Medusa does, the base's last ``hidden`` state."""
    speculator_keys: str = "group"
    """Which base layers a block reads: all of its ``group``, or the group's ``top`` one."""
    speculator_window: int = 0
    """Newest positions of the base that KVSPN reads: bounds the cost of long texts; 0 reads all."""
    draft_vocabulary: int = 0
    """Tokens that KVSPN scores, the frequent ones (``speculator.draft_tokens`` says which); 0 scores all."""
    speculator_acceptance: float = 0.7
    """Share of KVSPN's guesses that the base takes, as measured: what adaptive drafts begin with."""
    speculator_own_keys: bool = False
    """KVSPN writes keys of its own for tokens that the base has not read; without, they are a hole."""
    encoder_rotary: bool = False
    """Rotary positions in the encoder, in the place of Whisper's sinusoids."""
    encoder_block: int = 0
    """Frames that a stream hears at once: larger hears better and later; 0: it was trained to hear all at once only."""
    encoder_left: int = 200
    """Frames that a block hears before its first: larger hears better, costs more, and more is kept per stream."""

    def __post_init__(self) -> None:
        for name, heads in (
            ("encoder", self.encoder_attention_heads),
            ("decoder", self.decoder_attention_heads),
        ):
            if heads < 1 or self.d_model % heads:
                raise BadModel(f"d_model {self.d_model} does not divide by the {heads} attention heads of the {name}")
        if self.speculator_input not in {"token", "hidden"}:
            raise BadModel(f"speculator_input is {self.speculator_input!r}; it must be 'token' or 'hidden'")
        if self.speculator_input == "hidden" and self.speculator_own_keys:
            raise BadModel(
                "a speculator that starts from hidden states has nothing unread: leave speculator_own_keys out"
            )
        if self.encoder_block < 0 or self.encoder_left < 0:
            raise BadModel(
                f"encoder_block is {self.encoder_block}, encoder_left {self.encoder_left}; give frames, 0 or more"
            )
        if self.encoder_block and not self.encoder_rotary:
            raise BadModel(
                f"encoder_block is {self.encoder_block}, but positions are counted from the beginning of a clip: "
                "only an encoder with encoder_rotary hears in blocks; use 0"
            )
        if not 0 <= self.draft_vocabulary <= self.vocab_size:
            raise BadModel(f"draft_vocabulary is {self.draft_vocabulary}; give 0 to {self.vocab_size}, the vocabulary")
        if not 0 <= self.speculator_acceptance <= 1:
            raise BadModel(f"speculator_acceptance is {self.speculator_acceptance}; it is a share, 0 to 1")
        if self.speculator_keys not in {"group", "top"} or self.speculator_window < 0:
            raise BadModel(
                f"speculator_keys is {self.speculator_keys!r}, speculator_window {self.speculator_window}; "
                "use 'group' or 'top', and 0 (no window) or more"
            )
        if self.speculator_blocks and self.decoder_layers % self.speculator_blocks:
            raise BadModel(
                f"{self.decoder_layers} decoder layers cannot be split into {self.speculator_blocks} equal groups; "
                "speculator_blocks must divide decoder_layers"
            )

    @property
    def group(self) -> int:
        """Decoder layers per KVSPN block."""
        return self.decoder_layers // self.speculator_blocks

    @property
    def speculator_reads(self) -> tuple[range, ...]:
        """Per KVSPN block, the decoder layers whose keys it reads."""
        skipped = self.group - 1 if self.speculator_keys == "top" else 0
        return tuple(range(at + skipped, at + self.group) for at in range(0, self.decoder_layers, self.group))

    @property
    def head_width(self) -> int:
        """Width of one decoder attention head."""
        return self.d_model // self.decoder_attention_heads

    @classmethod
    def of(cls, raw: dict[str, Any]) -> NetworkConfig:
        """Pick our keys out of a ``config.json``; keys of other concerns are left alone."""
        known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
        required = {name for name, item in cls.__dataclass_fields__.items() if item.default is MISSING}
        if missing := sorted(required - known.keys()):
            raise BadModel(f"config.json lacks {', '.join(missing)}: is this a Whisper checkpoint?")
        return cls(**known)

    def asdict(self) -> dict[str, int | float | str]:
        """Return the keys as ``config.json`` holds them."""
        return asdict(self)


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of a checkpoint folder.

    Raises:
        BadModel: the file is missing or isn't a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"{path.parent} has no {path.name}; a Hugging Face Whisper folder holds one") from None
    except (OSError, ValueError) as error:
        raise BadModel(f"{path} is not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadModel(f"{path} holds a {type(value).__name__}; it must be a JSON object")
    return value


def read_features(folder: Path) -> FeatureConfig:
    """Read ``preprocessor_config.json``; Whisper's usual values where it is silent."""
    raw = read_json(folder / "preprocessor_config.json")
    if (rate := raw.get("sampling_rate", 16_000)) != 16_000:
        raise BadModel(f"{folder} wants audio at {rate} Hz; only 16000 Hz models are supported")
    return FeatureConfig(
        mels=raw.get("feature_size", 80),
        window=raw.get("n_fft", 400),
        hop=raw.get("hop_length", 160),
        scaling=raw.get("scaling", "clip"),
    )
