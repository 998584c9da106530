"""The programs of others: each reads the weights in its own form, and says by ``ImportError`` that it isn't there.

Whoever pads does so by its own public interface, as its users call it; unpadded is what a careful user can make of it.
torch is imported for transformers alone: what the others hold in memory is theirs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrans.audio import Samples
from streamtrans.bench.racing import Entrant
from streamtrans.text import Tokenizer

GGML = "whisper.bin"
GRAPHS = ("hear.xml", "write.xml")
FILTERS = "filters.npy"
WINDOW, HOP, FRAME = 400, 160, 320


class FasterWhisper:
    """faster-whisper over CTranslate2; unpadded through the two calls that its own ``transcribe`` makes."""

    def __init__(self, entrant: Entrant) -> None:
        from faster_whisper import WhisperModel

        self.padded = entrant.padded
        self.model = WhisperModel(
            entrant.folder, "cpu", compute_type=entrant.precision, cpu_threads=entrant.threads, local_files_only=True
        )
        self.tokenizers: dict[str, Any] = {}

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Read it all."""
        if self.padded:
            found, _ = self.model.transcribe(
                audio,
                language=language,
                beam_size=1,
                best_of=1,
                temperature=0.0,
                compression_ratio_threshold=None,
                log_prob_threshold=None,
                no_speech_threshold=None,
                condition_on_previous_text=False,
                without_timestamps=True,
                max_new_tokens=2 * most,  # CTranslate2 writes at most half of all, prompt included
            )
            return "".join(segment.text for segment in found)
        tokenizer = self._tokenizer(language)
        features = self.model.feature_extractor(audio, padding=0)
        prompt = self.model.get_prompt(tokenizer, [], without_timestamps=True)
        [found] = self.model.model.generate(
            self.model.encode(features),
            [prompt],
            beam_size=1,
            max_length=2 * most,
            suppress_tokens=[-1],
        )
        text: str = tokenizer.decode(found.sequences_ids[0])
        return text

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        if language not in self.tokenizers:
            self.tokenizers[language] = Tokenizer(self.model.hf_tokenizer, True, task="transcribe", language=language)
        return self.tokenizers[language]


class Transformers:
    """transformers' ``generate``; it takes padded audio only."""

    def __init__(self, entrant: Entrant) -> None:
        import torch
        from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        torch.set_num_threads(entrant.threads)
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[entrant.precision]
        self.model = WhisperForConditionalGeneration.from_pretrained(entrant.folder, dtype=self.dtype).eval()
        self.features = WhisperFeatureExtractor.from_pretrained(entrant.folder)
        self.tokenizer = AutoTokenizer.from_pretrained(entrant.folder)

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Read it all."""
        mel = self.features(audio, sampling_rate=16_000, return_tensors="pt").input_features.to(self.dtype)
        found = self.model.generate(
            mel,
            language=language,
            task="transcribe",
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
        )
        text: str = self.tokenizer.decode(found[0], skip_special_tokens=True)
        return text


class WhisperCpp:
    """whisper.cpp over pywhispercpp; unpadded by its setting ``audio_ctx``."""

    def __init__(self, entrant: Entrant) -> None:
        from pywhispercpp.model import Model

        self.padded = entrant.padded
        self.model = Model(
            str(Path(entrant.folder) / GGML),
            redirect_whispercpp_logs_to=None,
            n_threads=entrant.threads,
            no_timestamps=True,
            single_segment=True,
            no_context=True,
            suppress_nst=True,
            temperature=0.0,
            temperature_inc=0.0,
            greedy={"best_of": 1},
            print_progress=False,
            print_realtime=False,
        )

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Read it all; of less than a second it makes nothing, so there is silence behind."""
        frames = -(-len(audio) // FRAME)
        long_enough = np.pad(audio, (0, max(0, 16_000 - len(audio))))
        found = self.model.transcribe(
            long_enough,
            language=language,
            audio_ctx=0 if self.padded else frames,
            max_tokens=most - 1,  # it ends behind the one that is more
        )
        return " ".join(segment.text for segment in found)


class OpenVino:
    """OpenVINO's CPU plugin on graphs of ours, and the plainest loop around them."""

    def __init__(self, entrant: Entrant) -> None:
        openvino = load_openvino()
        folder = Path(entrant.folder)
        hint = "bf16" if entrant.precision == "bfloat16" else "f32"
        settings = {"INFERENCE_NUM_THREADS": entrant.threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        settings["INFERENCE_PRECISION_HINT"] = hint
        core = openvino.Core()
        hear, write = (core.compile_model(folder / name, "CPU", settings) for name in GRAPHS)
        self.hear, self.write = hear.create_infer_request(), write.create_infer_request()
        self.padded = entrant.padded
        self.filters = np.load(folder / FILTERS)
        self.tokenizer = Tokenizer.load(folder)
        config, said = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("config.json", "generation_config.json")
        )
        self.length = config["max_source_positions"] * FRAME
        heads = config["decoder_attention_heads"]
        shape = (2 * config["decoder_layers"], 1, heads, 0, config["d_model"] // heads)
        self.nothing = np.zeros(shape, np.float32)
        specials = {token for token in range(config["vocab_size"]) if self.tokenizer.is_special(token)}
        self.never = sorted((specials | {*said.get("suppress_tokens", ())}) - {self.tokenizer.eot})
        self.not_first = said.get("begin_suppress_tokens") or []

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Read it all."""
        padded = np.pad(audio, (0, self.length - len(audio) if self.padded else max(0, WINDOW - len(audio))))
        heard = self.hear.infer([log_mel(padded, self.filters)[None]])[0].copy()
        line, past, written = self._prompt(language), self.nothing, list[int]()
        while len(written) < most:
            found = self.write.infer([np.array([line]), past, heard])
            logits, past = found[0][0], found[1].copy()
            logits[self.never] = -np.inf
            if not written:
                logits[self.not_first] = -np.inf
            token = int(logits.argmax())
            if token == self.tokenizer.eot:
                break
            written.append(token)
            line = [token]
        return self.tokenizer.decode(written)

    def _prompt(self, language: str) -> list[int]:
        special = self.tokenizer.special
        named = (f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
        return [self.tokenizer.sot, *(token for name in named if (token := special(name)) is not None)]


def log_mel(audio: Samples, filters: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return Whisper's features ``(M, T)`` of ``(samples,)``, by numpy."""
    around = np.pad(audio, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(around, WINDOW)[::HOP][: len(audio) // HOP]
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    power = filters @ np.square(np.abs(np.fft.rfft(windows * hann))).T
    log = np.log10(np.maximum(power, 1e-10))
    scaled: npt.NDArray[np.float32] = ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)
    return scaled


def load_openvino() -> Any:
    """Import OpenVINO without the package by which it tells its makers of each use.

    Raises:
        ImportError: it isn't installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
