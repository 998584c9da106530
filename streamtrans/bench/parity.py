"""Our stock Whisper against transformers', on shared random weights: the largest difference of any logit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.core import SAMPLE_RATE, Option
from streamtrans.model.api import Forward
from streamtrans.model.config import NetworkConfig
from streamtrans.model.features import FeatureConfig
from streamtrans.model.network import Network, parameters_by_part
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer, train_tokenizer

MEDIUM = NetworkConfig(
    d_model=1024,
    encoder_layers=24,
    encoder_attention_heads=16,
    encoder_ffn_dim=4096,
    decoder_layers=24,
    decoder_attention_heads=16,
    decoder_ffn_dim=4096,
    vocab_size=51865,
)
"""Whisper-medium."""

MEDIUM_M2M = replace(MEDIUM, decoder_layers=12, text_encoder_layers=6, speculator_blocks=3)
"""What whisperM2M makes of it: a decoder of 12 layers, a text encoder of 6, a KVSPN of 3 blocks."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest absolute differences of logits, and their spread to compare it with."""

    mel: float
    features: float
    prefill: float
    stepwise: float
    logit_std: float
    tokens: int

    @property
    def worst(self) -> float:
        """The larger of the two differences of logits."""
        return max(self.prefill, self.stepwise)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsAndParameters:
    """Compare our logits with transformers' at Whisper-medium shape, and count parameters.

    Random weights in float32, one full 30 s window; takes about 5 GB of memory and a minute or two.
    """

    tokens: Annotated[int, Option("Tokens scored at once, then one by one.", least=1)] = 8

    def measure(self, progress: Progress = silent) -> Report:
        """Compare, and count."""
        progress("logits", 0, 1)
        found, parts = parity_figures(compare_with_transformers(tokens=self.tokens)), count_parameters()
        progress("logits", 1, 1)
        millions = [(part, f"{count / 1e6:.2f} M") for part, count in parts.items()]
        tables = [
            Table("largest difference to transformers, medium shape", ("", "value"), [*found.items()]),
            Table("parameters of whisperM2M at medium shape", ("part", "count"), millions),
        ]
        return Report({"logits": found, "parameters": parts}, tables)


def compare_with_transformers(
    shape: NetworkConfig = MEDIUM, *, tokens: int = 8, gain: float = 2.0, seed: int = 0
) -> Parity:
    """Encode a full window and score ``tokens`` at once and one by one, in float32, in both implementations.

    Args:
        shape: of a stock Whisper. The weights are shared, not copied: medium takes about 4 GB.
        tokens: random ones.
        gain: factor on transformers' initial weights, which are so small that attention is nearly even.
        seed: of weights, audio and tokens.
    """
    from transformers import WhisperFeatureExtractor

    theirs = _random_whisper(shape, gain, seed)
    ours = _sharing(shape, theirs)
    random = np.random.default_rng(seed)
    audio = random.normal(0, 0.1, ours.max_samples).astype(np.float32)
    line = random.integers(0, shape.vocab_size, tokens).tolist()
    extractor = WhisperFeatureExtractor(shape.num_mel_bins, chunk_length=ours.max_samples // SAMPLE_RATE)
    mel = extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        encoded = theirs.model.encoder(mel)
        wanted = theirs(encoder_outputs=encoded, decoder_input_ids=torch.tensor([line])).logits[0]
        our_mel = ours.log_mel(torch.from_numpy(audio)[None])
        features, _ = ours.network.model.encoder(our_mel)
    return Parity(
        mel=_apart(our_mel, mel),
        features=_apart(features, encoded.last_hidden_state),
        prefill=_apart(_logits(ours, audio, [line]), wanted),
        stepwise=_apart(_logits(ours, audio, [[token] for token in line]), wanted),
        logit_std=float(wanted.std()),
        tokens=tokens,
    )


def count_parameters(shape: NetworkConfig = MEDIUM_M2M) -> dict[str, int]:
    """Count a network's parameters per part without making it."""
    with torch.device("meta"):
        return parameters_by_part(Network(shape))


def parity_figures(parity: Parity) -> dict[str, Any]:
    """Return what is stored."""
    return {**asdict(parity), "worst": parity.worst}


def _random_whisper(shape: NetworkConfig, gain: float, seed: int) -> Any:
    """Return transformers' model with random weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    names = WhisperConfig().to_dict().keys() & shape.asdict().keys()
    marks = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1}
    shapes = {name: value for name, value in shape.asdict().items() if name in names}
    whisper = WhisperForConditionalGeneration(WhisperConfig(**shapes, **marks)).eval()
    with torch.no_grad():
        for parameter in whisper.parameters():
            if parameter.ndim > 1:
                parameter.mul_(gain)
    return whisper


def _sharing(shape: NetworkConfig, whisper: Any) -> TorchSpeechModel:
    """Return our model on the weights of transformers'."""
    weights = whisper.state_dict()
    weights.pop("proj_out.weight")  # tied to the token embedding
    with torch.device("meta"):
        network = Network(shape)
    network.load_state_dict(weights, assign=True)
    manner = Manner(languages=("en",), prompt=lambda *_: (0,), padded=True, suppressed=frozenset())
    tokenizer = Tokenizer(train_tokenizer(["any text will do here"], 300, ["en"]))
    return TorchSpeechModel("random", network, tokenizer, FeatureConfig(shape.num_mel_bins), manner)


def _logits(model: TorchSpeechModel, audio: Samples, pieces: list[list[int]]) -> Tensor:
    """Read ``pieces`` one pass after the other, as the engine would; return the logits ``(T, V)``."""
    decoder = model.network.model.decoder
    found: list[Tensor] = []
    hook = decoder.layer_norm.register_forward_hook(lambda _, __, hidden: found.append(decoder.logits(hidden)))
    cache = model.allocate(1).open(model.encode([audio])[0])
    for piece in pieces:
        model.step([Forward(tuple(piece), cache, len(piece), tuple(piece[1:]))])
    hook.remove()
    return torch.cat(found)


def _apart(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).abs().max())
