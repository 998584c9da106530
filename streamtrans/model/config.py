"""What a checkpoint folder says about its network, read from the Hugging Face files.

The keys are Whisper's own; whisperM2M adds those of the text encoder, of the speculator, and how the encoder hears.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrans.core import BadModel
from streamtrans.model.features import FeatureConfig

RANGES = {
    "d_model": (1, 65_536),
    "encoder_layers": (1, 512),
    "encoder_attention_heads": (1, 1_024),
    "encoder_ffn_dim": (1, 1_000_000),
    "decoder_layers": (1, 512),
    "decoder_attention_heads": (1, 1_024),
    "decoder_ffn_dim": (1, 1_000_000),
    "vocab_size": (1, 10_000_000),
    "num_mel_bins": (1, 1_024),
    "max_source_positions": (1, 1_000_000),
    "max_target_positions": (1, 100_000),
    "text_encoder_layers": (0, 512),
    "speculator_blocks": (0, 512),
    "speculator_ffn_dim": (0, 1_000_000),
    "speculator_window": (0, 100_000),
    "draft_vocabulary": (0, 10_000_000),
    "encoder_width": (0, 65_536),
    "encoder_block": (0, 1_000_000),
    "encoder_left": (0, 1_000_000),
}
"""Least and most of whole numbers: far beyond any model, so that a broken file doesn't build a giant first."""

MOST = 10_000_000
"""The most of those that aren't among them; the least is 1."""

WITHIN = {"encoder_block": "max_source_positions", "draft_vocabulary": "vocab_size"}
"""Numbers that can't exceed another one."""


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
    encoder_width: int = 0
    """Width of the encoder; 0: the decoder's, which is ``d_model``."""
    encoder_rotary: bool = False
    """Rotary positions in the encoder, in the place of Whisper's sinusoids."""
    encoder_block: int = 0
    """Frames that a stream hears at once: larger hears better and later; 0: it was trained to hear all at once only."""
    encoder_left: int = 200
    """Frames that a block hears before its first: larger hears better, costs more, and more is kept per stream."""

    def __post_init__(self) -> None:
        whole(asdict(self), RANGES)
        for name in ("speculator_own_keys", "encoder_rotary"):
            if type(getattr(self, name)) is not bool:
                raise BadModel(f"{name} is {shown(getattr(self, name))}; it must be true or false")
        for name, known in (("speculator_input", ("token", "hidden")), ("speculator_keys", ("group", "top"))):
            if getattr(self, name) not in known:
                raise BadModel(f"{name} is {shown(getattr(self, name))}; it must be {' or '.join(map(repr, known))}")
        share = self.speculator_acceptance
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise BadModel(f"speculator_acceptance is {shown(share)}; it is a share, 0 to 1")
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuse numbers that don't go together."""
        for name, width, heads in (
            ("encoder", self.encoder_width or self.d_model, self.encoder_attention_heads),
            ("decoder", self.d_model, self.decoder_attention_heads),
        ):
            if width % heads:
                told = "encoder_width" if width != self.d_model else "d_model"
                raise BadModel(f"{told} {width} does not divide by the {heads} attention heads of the {name}")
        if self.encoder_width and self.text_encoder_layers:
            raise BadModel(
                "a text encoder is as wide as the decoder: encoder_width doesn't go with text_encoder_layers"
            )
        if self.speculator_input == "hidden" and self.speculator_own_keys:
            raise BadModel(
                "a speculator that starts from hidden states has nothing unread: leave speculator_own_keys out"
            )
        if self.encoder_block and not self.encoder_rotary:
            raise BadModel(
                f"encoder_block is {self.encoder_block}, but positions are counted from the beginning of a clip: "
                "only an encoder with encoder_rotary hears in blocks; use 0"
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
        """Pick our keys out of a ``config.json``; keys of other concerns are left alone.

        Raises:
            BadModel: a value is missing or wrong, or asks for arithmetic that these layers don't do.
        """
        for name, usual in (("activation_function", "gelu"), ("scale_embedding", False)):
            if raw.get(name, usual) != usual:
                raise BadModel(f"{name} is {shown(raw[name])}; every Whisper has {usual!r}, and nothing else is known")
        known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
        required = {name for name, item in cls.__dataclass_fields__.items() if item.default is MISSING}
        if missing := sorted(required - known.keys()):
            raise BadModel(f"config.json lacks {', '.join(missing)}: is this a Whisper checkpoint?")
        return cls(**known)

    def asdict(self) -> dict[str, int | float | str]:
        """Return the keys as ``config.json`` holds them."""
        return asdict(self)


def whole(raw: Mapping[str, Any], names: Collection[str]) -> dict[str, int]:
    """Pick whole numbers out of a ``config.json``.

    Raises:
        BadModel: one is missing, or no number that a network can have.
    """
    for name in names:
        least, most = RANGES.get(name, (1, MOST))
        value, most = raw.get(name), min(most, raw[WITHIN[name]]) if name in WITHIN else most
        if type(value) is not int or not least <= value <= most:
            unit = "frames" if name in ("encoder_block", "encoder_left") else "a whole number"
            limits = f"{least} or more" if type(value) is int and value < least else f"{least} to {most}"
            raise BadModel(f"{name} is {shown(value)}; give {unit}, {limits}")
    return {name: raw[name] for name in names}


def tokens_of(numbers: Mapping[str, Any], size: int, file: Path) -> dict[str, int]:
    """Return the token of each piece of ``file``, all of them within the ``size`` of a vocabulary.

    Raises:
        BadModel: one isn't.
    """
    if not all(type(token) is int and 0 <= token < size for token in numbers.values()):
        raise BadModel(
            f"{file} has more tokens than the {size} of config.json, or some that are no number: one of the two"
            " is another model's"
        )
    return dict(numbers)


def shown(value: object) -> str:
    """Return a value out of somebody's file for one line of an error: short, whatever it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of a checkpoint folder.

    Raises:
        BadModel: the file is missing or isn't a JSON object.
    """
    if not path.is_file():
        raise BadModel(f"{path.parent} has no {path.name}; a Hugging Face Whisper folder holds one")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModel(f"{path} is not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadModel(f"{path} holds a {type(value).__name__}; it must be a JSON object")
    return value


def read_features(folder: Path, mels: int | None = None) -> FeatureConfig:
    """Read how sound becomes frames from ``preprocessor_config.json``; Whisper's usual values where it is silent.

    Folders that transformers 5 saved have a ``processor_config.json`` instead, which holds the same in a part.

    Raises:
        BadModel: both are missing, a value is wrong, or the frames don't fit an encoder that reads ``mels`` bins.
    """
    file = folder / "preprocessor_config.json"
    if not file.exists() and (folder / "processor_config.json").exists():
        file = folder / "processor_config.json"
        raw = read_json(file).get("feature_extractor")
        if not isinstance(raw, dict):
            raise BadModel(f"{file} has no feature_extractor, and {folder} no preprocessor_config.json")
    else:
        raw = read_json(file)
    kind = raw.get("feature_extractor_type", "WhisperFeatureExtractor")
    if kind != "WhisperFeatureExtractor":
        raise BadModel(f"{file} is of a {shown(kind)}; only a WhisperFeatureExtractor is known")
    if (rate := raw.get("sampling_rate", 16_000)) != 16_000:
        raise BadModel(f"{folder} wants audio at {shown(rate)} Hz; only 16000 Hz models are supported")
    features = FeatureConfig(
        mels=raw.get("feature_size", 80),
        window=raw.get("n_fft", 400),
        hop=raw.get("hop_length", 160),
        scaling=raw.get("scaling", "clip"),
    )
    if mels is not None and features.mels != mels:
        raise BadModel(
            f"{file} makes frames of {features.mels} mel bins, and the encoder of config.json reads"
            f" {mels}: one of the two files is another model's"
        )
    return features
