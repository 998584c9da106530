"""A toy run: a tiny whisperM2M of random weights that is asked as Whisper is, a table, recordings, a recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network
from streamtrans.train.anchored.listening import hear_ahead
from streamtrans.train.anchored.taught import CHAPTER
from tests.checkpoints import write_tokenizer

SENTENCES = [
    ("Turn on the light.", "Mach das Licht an.", "打开灯。"),
    ("What is the weather?", "Wie ist das Wetter?", "天气怎么样？"),
    ("Play some music.", "Spiel etwas Musik.", "播放音乐。"),
    ("Stop the music.", "Stopp die Musik.", "停止音乐。"),
    ("Wake me up at nine.", "Weck mich um neun.", "九点叫醒我。"),
]
RECIPE = """
name = "toy"
anchored = true
base = "{folder}/base"
languages = ["en", "de", "zh"]
[text]
tables = "{folder}/text"
shares = {{ chat = 1.0 }}
[voices]
pico = 0.0     # neither of them sounds the same twice
espeak = 0.0
spoken = ["{folder}/ahead/manifest.tsv"]
sounds = ["{folder}/sounds"]
[peek]
manifest = "{folder}/people.tsv"
every = 9
rows = 4
[[stages]]
name = "ears"
lesson = "hearing"
steps = 18
batch = 2
repeat = 2
warmup = 2
rank = 2
pad_s = 0.5
joined = 0.5
sounds = 0.2
empty = 0.1
average = 0.9
[[stages]]
name = "words"
lesson = "directions"
start_from = "ears"
steps = 40
batch = 2
per_file = 16
warmup = 2
empty = 0.1
average = 0.9
"""


def make_base(folder: Path) -> None:
    folder.mkdir()
    torch.manual_seed(0)
    config = NetworkConfig(
        d_model=24,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        vocab_size=write_tokenizer(folder),
        num_mel_bins=80,
        max_source_positions=1500,
        max_target_positions=128,
        speculator_ffn_dim=40,
    )
    network = Network(config)
    prompt = ["<|{target}|>", "<|transcribe|>", "<|notimestamps|>"]
    settings = {"model_type": "whisper_m2m", "languages": ["en", "de", "zh"], "prompt": prompt, **config.asdict()}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "alignment_heads": [[1, 1]]}))
    save_file(network.state_dict(), folder / "model.safetensors")


def write_sound(file: Path, seconds: float) -> None:
    file.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(int(100 * seconds))
    soundfile.write(file, random.normal(0, 0.1, int(16_000 * seconds)), 16_000)


def hear(recipe: Path, runs: Path, stage: str = "words", files: int = CHAPTER + 1) -> Path:
    """Hear ahead for a stage; return the folder."""
    hear_ahead(recipe, stage, runs=runs, files=files, processes=0, say=lambda _: None)
    return runs / "toy" / stage / "heard"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a recipe."""
    folder = tmp_path_factory.mktemp("anchored")
    make_base(folder / "base")
    (folder / "text").mkdir()
    lines = ["en\tde\tzh", *("\t".join(sentence) for sentence in SENTENCES)]
    (folder / "text" / "chat.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spoken = ["audio\tlanguage\ttext\ten\tzh"]
    for number, (english, _, chinese) in enumerate(SENTENCES[:2]):
        write_sound(folder / "ahead" / f"{number}.flac", 0.8 + number / 5)
        spoken.append(f"{number}.flac\tzh\t{chinese}\t{english}\t{chinese}")
    (folder / "ahead" / "manifest.tsv").write_text("\n".join(spoken) + "\n", encoding="utf-8")
    write_sound(folder / "sounds" / "door.wav", 3.0)
    people = ["audio\tlanguage\ten\tde"]
    for number in range(4):
        write_sound(folder / "people" / f"{number}.wav", 0.7 + number / 7)
        people.append(
            f"people/{number}.wav\t{'en' if number % 2 else 'de'}\t{SENTENCES[number][0]}\t{SENTENCES[number][1]}"
        )
    (folder / "people.tsv").write_text("\n".join(people) + "\n", encoding="utf-8")
    recipe = folder / "toy.toml"
    recipe.write_text(RECIPE.format(folder=folder))
    return recipe
