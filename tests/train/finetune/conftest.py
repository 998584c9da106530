"""A tiny Whisper converted to whisperM2M, and a synthetic corpus of tones in three languages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

from streamtrans.cli import main
from streamtrans.compress import convert
from tests.checkpoints import make_whisper

SENTENCES = [
    ("turn on the light", "mach das licht an", "打开灯"),
    ("turn off the light", "mach das licht aus", "关灯"),
    ("what is the weather", "wie ist das wetter", "今天天气怎么样"),
    ("play some music", "spiel etwas musik", "播放音乐"),
    ("stop the music", "stopp die musik", "停止音乐"),
    ("wake me up at nine", "weck mich um neun", "九点叫醒我"),
]
LANGUAGES = ("en", "de", "zh")
SHAPE = {
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 4,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 80,
}

RECIPE = """
name = "tiny"
base = "{base}"
languages = ["en", "de", "zh"]
[lora]
layers = 2
rank = 4
[loss]
targets = 2
chains = 2
[training]
steps = 6
warmup = 2
peak_lr = 3e-3
batch = 4
precision = "no"
loader_processes = 0
save_every = 1
log_every = 1
saved_as = "float32"
[evaluation]
every = 3
rows = 4
bleu_rows = 2
max_tokens = 12
[[evaluation.data]]
reader = "manifest"
path = "{corpus}/held_out.tsv"
[[data]]
reader = "manifest"
path = "{corpus}/train.tsv"
"""


def write_tone(path: Path, *, seconds: float, pitch: float, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(int(pitch)).normal(0, 0.01, len(time))
    soundfile.write(path, (0.2 * np.sin(2 * np.pi * pitch * time) + noise).astype(np.float32), rate)


def write_manifest(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``streamtrans convert`` makes of a tiny random Whisper."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bases")
    (root / "whisper").mkdir()
    make_whisper(root / "whisper", **SHAPE)
    convert(
        root / "whisper",
        root / "m2m",
        decoder_layers=2,
        text_encoder_layers=1,
        speculator_blocks=2,
        languages=LANGUAGES,
    )
    return root / "m2m"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones that stand for sentences, with a manifest to train on and one held out."""
    root = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, sentence in enumerate(SENTENCES):
        for place, language in enumerate(LANGUAGES):
            name = f"clips/{language}{number}.wav"
            rate = 8_000 if number % 2 else 16_000
            write_tone(root / name, seconds=0.4 + 0.1 * number, pitch=200 + 50 * number + 7 * place, rate=rate)
            rows.append((name, sentence[place], language, *sentence))
    header = ("audio", "text", "language", *LANGUAGES)
    write_manifest(root / "train.tsv", rows[:-3], header)
    write_manifest(root / "held_out.tsv", rows[-3:], header)
    return root


@dataclass(frozen=True)
class Setup:
    recipe: Path
    runs: Path

    @property
    def folder(self) -> Path:
        return self.runs / "tiny"

    def change(self, old: str, new: str) -> None:
        text = self.recipe.read_text(encoding="utf-8")
        assert old in text
        self.recipe.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def setup(tmp_path: Path, base: Path, corpus: Path) -> Setup:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(base=base, corpus=corpus), encoding="utf-8")
    return Setup(recipe, tmp_path / "runs")


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the program; return its status and all that it told."""

    def call(*arguments: object) -> tuple[int, str]:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, "".join(capsys.readouterr())

    return call


LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
CODES = ["eng_Latn", "deu_Latn", "zho_Hans", "por_Latn"]


@pytest.fixture(scope="session")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of many languages, with a token per language."""
    folder = tmp_path_factory.mktemp("nllb")
    names = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS]
    tokenizer = NllbTokenizer({name: at for at, name in enumerate(names)}, [], extra_special_tokens=CODES)
    torch.manual_seed(0)
    shape = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        **shape,
    )
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
