"""A toy recipe: a table of six sentences in three languages, and three stages of a few steps."""

from pathlib import Path

import pytest

SENTENCES = [
    ("turn on the light", "mach das licht an", "打开灯"),
    ("turn off the light", "mach das licht aus", "关灯"),
    ("wake me up at nine", "weck mich um neun", "九点叫醒我"),
    ("what is the weather today", "wie ist das wetter heute", "今天天气怎么样"),
    ("play some music", "spiel etwas musik", "播放音乐"),
    ("stop the music", "stopp die musik", "停止音乐"),
]

RECIPE = """
name = "toy"
languages = ["en", "de", "zh"]
vocabulary = 320
ctc_vocabulary = 300
[data]
tables = "{tables}"
requests = 1.0
templates = 0.0
tatoeba = 0.0
[features]
mels = 20
window = 400
hop = 320
scaling = "fixed"
[network]
d_model = 16
encoder_layers = 1
encoder_attention_heads = 2
encoder_ffn_dim = 24
decoder_layers = 2
decoder_attention_heads = 2
decoder_ffn_dim = 24
num_mel_bins = 20
max_source_positions = 400
max_target_positions = 64
text_encoder_layers = 1
speculator_blocks = 1
[[stages]]
name = "mt"
weights = {{ mt = 1.0 }}
steps = 5
batch = 3
targets = 2
warmup = 2
[[stages]]
name = "ctc"
weights = {{ ctc = 1.0 }}
steps = 3
batch = 2
targets = 1
warmup = 1
[[stages]]
name = "st"
weights = {{ st = 2.0, mt = 1.0, kl = 0.5, spec = 0.2, ctc = 0.3 }}
steps = 4
batch = 2
targets = 2
warmup = 1
start_from = {{ encoder = "ctc", ctc_head = "ctc", decoder = "mt", text_encoder = "mt" }}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    tables = tmp_path / "text"
    tables.mkdir()
    lines = ["id\tentities\ten\tde\tzh"] + [
        f"{number}\tnone\t" + "\t".join(texts) for number, texts in enumerate(SENTENCES)
    ]
    (tables / "massive_train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE.format(tables=tables))
    return path
