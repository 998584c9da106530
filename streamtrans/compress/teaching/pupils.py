"""Models that learn or teach: each scores whole texts about recordings, token by token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from streamtrans.audio import Samples
from streamtrans.compress.audio_llm import FAMILY, MOST_TOKENS, AudioLLM
from streamtrans.compress.teaching.packed import adapt, merged
from streamtrans.compress.teaching.recipe import Teaching
from streamtrans.compress.weights import Weights
from streamtrans.core import BadConfig, BadModel, UnsupportedLanguage, samples
from streamtrans.evaluate.manifest import Talk
from streamtrans.model.config import read_json, shown
from streamtrans.model.loading import FAMILIES, choose_device
from streamtrans.model.network import Texts
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.model.stored import is_stored
from streamtrans.train.batches import stack_frames

NOTHING = "nothing"
"""What a teacher learns."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A recording, and texts (target, text) that are to be written of it."""

    talk: Talk
    texts: tuple[tuple[str, str], ...]


class Pupil(Protocol):
    """Who learns, or teaches."""

    device: torch.device

    @property
    def module(self) -> nn.Module:
        """The network."""
        ...

    @property
    def spelling(self) -> Mapping[str, int]:
        """The vocabulary: tokens that are text, by how the tokenizer spells them, and the end as the empty string."""
        ...

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text and its end."""
        ...

    def able(self, talk: Talk, target: str, text: str) -> bool:
        """Whether a recording can be asked for in a language, and a text has room."""
        ...

    def read(self, batch: Sequence[Asked]) -> Tensor:
        """Return logits ``(N, V)`` for the tokens of all texts and their ends, text after text."""
        ...

    def learning(self) -> dict[str, nn.Parameter]:
        """Return what learns, by name."""
        ...

    def learnt(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what has learnt, under the names of the checkpoint."""
        ...


def computed_in(teaching: Teaching, device: torch.device) -> torch.dtype:
    """Return what passes are computed in; what learns stays in float32."""
    half = teaching.precision == "bfloat16" or (teaching.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Let passes be computed in ``dtype``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def encoder_sha256(folder: Path) -> str:
    """Return a checksum over the weights of a folder that hear: what its decoder lost or learnt doesn't change it."""
    digest = hashlib.sha256()
    with Weights(folder) as weights:
        for name in sorted(name for name in weights if name.startswith("model.encoder.")):
            digest.update(name.encode())
            digest.update(weights[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class SpeechPupil:
    """A Whisper or whisperM2M. An encoder that doesn't learn is listened to once per recording.

    Args:
        folder: the checkpoint.
        teaching: how it learns.
        learns: what of it does; :data:`NOTHING` for a teacher.
        heard: where what the encoder says is kept, across runs.
        exact: whether it is computed and kept in float32, whatever ``teaching`` computes in.
    """

    def __init__(self, folder: Path, teaching: Teaching, learns: str, heard: Path, *, exact: bool = False) -> None:
        self.device = choose_device(teaching.device)
        load = FAMILIES.load(read_json(folder / "config.json")["model_type"])
        model: object = load(folder, device=self.device, dtype=torch.float32)
        if not isinstance(model, TorchSpeechModel):
            raise BadModel(f"{folder} isn't shaped like a Whisper, and only such models learn and teach")
        self.model: TorchSpeechModel = model
        self.network, self.learns = self.model.network, learns
        self.silence_s = teaching.silence_s
        self.hears = learns in ("all", "lora", "qlora")
        self.exact, self.dtype = exact, torch.float32 if exact else computed_in(teaching, self.device)
        manner = "padded" if self.silence_s is None and self.model.manner.padded else f"{self.silence_s or 0:g}s"
        half = "-exact" if exact else "-half" if self.dtype != torch.float32 else ""
        self.heard = heard / f"{encoder_sha256(folder)[:16]}-{manner}{half}"
        self.heard.mkdir(parents=True, exist_ok=True)
        if learns in ("lora", "qlora"):
            adapt(self.network.model, teaching.rank, teaching.alpha, pack=learns == "qlora", compute=self.dtype)
        else:
            self._thaw(learns)
        vocabulary = json.loads(self.model.tokenizer.layout())["model"]["vocab"]
        self.spelling: Mapping[str, int] = {**vocabulary, "": self.model.eot}

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.network

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text and its end."""
        return (*self.model.tokenizer.encode(text), self.model.eot)

    def able(self, talk: Talk, target: str, text: str) -> bool:
        """Whether the family has a prompt for it, and the decoder positions for the text."""
        try:
            prompt = self.model.prompt(target, talk.language)
        except UnsupportedLanguage:
            return False
        return len(prompt) + len(self.tokens(text)) <= self.model.max_tokens

    def read(self, batch: Sequence[Asked]) -> Tensor:
        """Return logits ``(N, V)``; texts of one recording share what was heard."""
        features, visible = self._hear([asked.talk for asked in batch])
        each = max(len(asked.texts) for asked in batch)
        lines: list[tuple[int, ...]] = []
        prompts: list[int] = []
        for asked in batch:
            prompt: tuple[int, ...] = ()
            for target, text in asked.texts:
                prompt = self.model.prompt(target, asked.talk.language)
                lines.append((*prompt, *self.tokens(text)[:-1]))
                prompts.append(len(prompt))
            # Texts stand together by recording, equally many: what is missing is a prompt that nobody scores.
            missing = each - len(asked.texts)
            lines += [prompt] * missing
            prompts += [len(prompt) + 1] * missing
        longest = max(map(len, lines))
        tokens = torch.tensor([(*line, *(self.model.eot,) * (longest - len(line))) for line in lines])
        places = torch.arange(longest)
        real = places < torch.tensor([len(line) for line in lines])[:, None]
        scored = real & (places >= torch.tensor(prompts)[:, None] - 1)
        texts = Texts(tokens.to(self.device), real.to(self.device))
        hidden, _ = self.network.read_targets(texts, features, visible)
        chosen = hidden[0][scored.to(self.device).flatten()[texts.where]]
        return self.network.model.decoder.logits(chosen).float()

    def learning(self) -> dict[str, nn.Parameter]:
        """Return what learns."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def learnt(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what has learnt, or what its adapters have made of it."""
        if self.learns in ("lora", "qlora"):
            yield from ((f"model.{name}", value) for name, value in merged(self.network.model))
        else:
            yield from ((name, value.detach()) for name, value in self.learning().items())

    def audio(self, talk: Talk) -> Samples:
        """Return a recording with the silence that the encoder is to hear behind it."""
        audio = talk.load()[: self.model.max_samples]
        whole = self.model.max_samples
        if self.silence_s is not None:
            whole = min(whole, len(audio) + samples(1000 * self.silence_s))
        elif not self.model.manner.padded:
            whole = len(audio)
        return np.pad(audio, (0, whole - len(audio)))

    def _thaw(self, learns: str) -> None:
        """Let layers and their last norm learn, and nothing else."""
        self.network.requires_grad_(False)
        inner: nn.Module = self.network.model
        for stack in {"decoder": ("decoder",), "all": ("decoder", "encoder")}.get(learns, ()):
            for part in ("layers", "layer_norm"):
                inner.get_submodule(f"{stack}.{part}").requires_grad_(True)

    def _hear(self, talks: Sequence[Talk]) -> tuple[Tensor, Tensor | None]:
        """Return features ``(B, S, E)`` and which of them are real."""
        if self.hears:
            mels = [self._mel(talk) for talk in talks]
            frames = torch.tensor([mel.shape[1] for mel in mels], device=self.device)
            found: tuple[Tensor, Tensor | None] = self.network.model.encoder(stack_frames(mels), frames)
            return found
        kept = [self.hear(talk) for talk in talks]
        lengths = torch.tensor([each.shape[0] for each in kept], device=self.device)
        # Once, for autocast would do it again for the keys and the values of each layer.
        features = nn.utils.rnn.pad_sequence(kept, batch_first=True).to(self.device, self.dtype)
        return features, torch.arange(features.shape[1], device=self.device) < lengths[:, None]

    def hear(self, talk: Talk) -> Tensor:
        """Return what the encoder says of a recording, ``(S, E)``: said once, for all runs that share the folder."""
        file = self.heard / f"{hashlib.sha256(talk.audio.read_bytes()).hexdigest()[:24]}.npy"
        if not file.exists():
            with torch.no_grad(), autocast(self.dtype, self.device):
                features, _ = self.network.model.encoder(self._mel(talk)[None])
            part = file.with_suffix(".part")
            with part.open("wb") as stream:
                np.save(stream, (features[0] if self.exact else features[0].half()).cpu().numpy())
            part.rename(file)
        return torch.from_numpy(np.load(file))

    def _mel(self, talk: Talk) -> Tensor:
        return self.model.log_mel(torch.from_numpy(self.audio(talk))[None].to(self.device))[0]


class AudioLanguagePupil:
    """A Qwen2-Audio, one text at a time."""

    def __init__(self, folder: Path, teaching: Teaching, learns: str) -> None:
        self.llm = AudioLLM(folder, teaching.device, "auto" if learns in (NOTHING, "qlora") else "float32")
        self.device, self.learns = self.llm.device, learns
        self.llm.model.requires_grad_(False)
        if learns in ("lora", "qlora"):
            # All linears but the last: the model without its head.
            adapt(self.llm.model.model, teaching.rank, teaching.alpha, pack=learns == "qlora", compute=self.llm.dtype)
        elif learns != NOTHING:
            self.llm.decoder.layers.requires_grad_(True)
            self.llm.decoder.norm.requires_grad_(True)
            if learns == "all":
                self.llm.model.model.audio_tower.layers.requires_grad_(True)
                self.llm.model.model.multi_modal_projector.requires_grad_(True)
        vocabulary = json.loads(self.llm.tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
        self.spelling: Mapping[str, int] = {**vocabulary, "": self.llm.end}

    @property
    def module(self) -> nn.Module:
        """The network."""
        found: nn.Module = self.llm.model
        return found

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text and its end."""
        return (*self.llm.tokenizer(text, add_special_tokens=False)["input_ids"], self.llm.end)

    def able(self, talk: Talk, target: str, text: str) -> bool:  # noqa: ARG002 - as a pupil
        """It is asked in words: whatever can be said can be asked for; its answers are no longer than it may write."""
        return len(self.tokens(text)) <= MOST_TOKENS

    def read(self, batch: Sequence[Asked]) -> Tensor:
        """Return logits ``(N, V)``."""
        return torch.cat(
            [
                self.llm.score(asked.talk.load(), asked.talk.language, target, self.tokens(text))
                for asked in batch
                for target, text in asked.texts
            ]
        )

    def learning(self) -> dict[str, nn.Parameter]:
        """Return what learns."""
        return {name: value for name, value in self.llm.model.named_parameters() if value.requires_grad}

    def learnt(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what has learnt, or what its adapters have made of it."""
        if self.learns in ("lora", "qlora"):
            found = ((f"model.{name}", value) for name, value in merged(self.llm.model.model))
        else:
            found = ((name, value.detach()) for name, value in self.learning().items())
        return ((self.llm.stored_name(name), value) for name, value in found)


def load_ears(folder: Path, teaching: Teaching, heard: Path) -> SpeechPupil:
    """Load who hears recordings once for all models that share its encoder, as these hear them to be scored.

    Raises:
        BadModel: the folder's family can't, or its weights aren't finite.
        BadConfig: it is no Whisper.
    """
    ears = load_pupil(folder, teaching, NOTHING, heard, exact=True)
    if not isinstance(ears, SpeechPupil):
        raise BadConfig(f"{folder} is no Whisper: only its encoder is listened to once for all models")
    return ears


_ABLE = ("whisper", "whisper_m2m", FAMILY)
"""Families of ours that learn and teach; others do where they are shaped like a Whisper."""


def load_pupil(
    folder: Path, teaching: Teaching, learns: str, heard: Path, *, exact: bool = False
) -> SpeechPupil | AudioLanguagePupil:
    """Load who learns, or teaches; an ``exact`` one hears in float32, whatever ``teaching`` computes in.

    Raises:
        BadModel: the folder's family can't, its weights aren't finite, or what shall learn is stored as whole numbers.
    """
    family = read_json(folder / "config.json").get("model_type")
    if family not in FAMILIES and family != FAMILY:
        raise BadModel(f"{folder} holds a {shown(family)} model; {', '.join(_ABLE)} can learn and teach")
    with Weights(folder) as weights:
        if learns != NOTHING and is_stored(weights):
            raise BadModel(f"{folder} is stored as whole numbers, which can't learn; give what it was made of")
        for name in weights:
            weights[name]  # reading refuses what isn't finite
    if family == FAMILY:
        return AudioLanguagePupil(folder, teaching, learns)
    return SpeechPupil(folder, teaching, learns, heard, exact=exact)
