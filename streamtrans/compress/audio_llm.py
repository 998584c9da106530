"""A Qwen2-Audio, run by transformers: asked in words about a recording, answering greedily or scored as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamtrans.audio import Samples
from streamtrans.core import BadConfig, needs
from streamtrans.engine import EngineConfig
from streamtrans.model.audio_lm.qwen2_audio import SYSTEM, order
from streamtrans.model.loading import DTYPES, choose_device, choose_precision

FAMILY = "qwen2_audio"
MOST_TOKENS = 1024


class AudioLLM:
    """The model with its processor.

    Raises:
        BadConfig: transformers is missing.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        try:
            from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration
        except ImportError:
            raise BadConfig(needs("an audio LLM", "transformers", "train")) from None
        self.device = choose_device(device)
        self.dtype = DTYPES[choose_precision(dtype, self.device, 0)]
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=self.dtype)
        self.model.to(self.device).eval()
        self.tokenizer: Any = self.processor.tokenizer
        self.decoder: Any = self.model.get_decoder()
        self.layers = list(self.decoder.layers)
        # Whatever the folder says of sampling and penalties, answers are greedy.
        ends = self.model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        self.end: int = self.tokenizer.eos_token_id

    def use(self, kept: range | list[int]) -> None:
        """Put the ``kept`` layers into the language model, numbered as its cache wants them."""
        self.decoder.layers = nn.ModuleList(self.layers[number] for number in kept)
        self.decoder.config.num_hidden_layers = len(kept)
        for place, layer in enumerate(self.decoder.layers):
            layer.self_attn.layer_idx = place

    @torch.inference_mode()
    def question(self, audio: Samples, source: str, target: str) -> Tensor:
        """Return what the language model reads before it answers, ``(1, T, E)``: the same whatever layers it has."""
        seen: list[Tensor] = []
        # The first layer's input is what speech and text have become together.
        hook = self.layers[0].register_forward_pre_hook(
            lambda _, args, named: seen.append(args[0] if args else named["hidden_states"]), with_kwargs=True
        )
        try:
            self.model(**self.inputs(audio, order(source, target)))
        finally:
            hook.remove()
        return seen[0]

    @torch.inference_mode()
    def answer(self, question: Tensor, heard: int) -> list[int]:
        """Answer a question about ``heard`` samples; the last token is an end, unless the answer became too long."""
        score, embed = self.model.get_output_embeddings(), self.model.get_input_embeddings()
        most = EngineConfig().limit(MOST_TOKENS, (), heard)
        tokens: list[int] = []
        past, rows = None, question
        while len(tokens) < most:
            out = self.decoder(inputs_embeds=rows, past_key_values=past, use_cache=True)
            tokens.append(int(score(out.last_hidden_state[:, -1]).argmax(-1)))
            if tokens[-1] in self.ends:
                break
            past, rows = out.past_key_values, embed(torch.tensor([[tokens[-1]]], device=self.device))
        return tokens

    def spell(self, tokens: list[int]) -> str:
        """Return the text of an answer."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def score(self, audio: Samples, source: str, target: str, answer: tuple[int, ...]) -> Tensor:
        """Return logits ``(N, V)`` for the tokens of a whole answer."""
        inputs = self.inputs(audio, order(source, target))
        said = torch.tensor([answer], device=self.device)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], said], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1)
        logits: Tensor = self.model(**inputs, use_cache=False).logits
        return logits[0, -len(answer) - 1 : -1].float()

    @staticmethod
    def stored_name(name: str) -> str:
        """Return how a checkpoint calls a parameter of the model in memory."""
        if name.startswith("lm_head"):
            return f"language_model.{name}"
        return re.sub(r"^language_model\.", "language_model.model.", name.removeprefix("model."))

    def inputs(self, audio: Samples, text: str) -> Any:
        """Return what the model reads when it is told ``text`` about a recording, as transformers names it."""
        said = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "audio", "audio_url": ""}, {"type": "text", "text": text}]},
        ]
        asked = self.processor.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        rate = self.processor.feature_extractor.sampling_rate
        inputs = self.processor(text=[asked], audio=[np.asarray(audio)], sampling_rate=rate, return_tensors="pt")
        return inputs.to(self.device, self.model.dtype)
