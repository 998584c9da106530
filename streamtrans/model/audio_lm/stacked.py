"""Audio language models that are trained here: Whisper's encoder and words, neighbouring frames as one position.

```
<|startoftranscript|> audio ──────────────── <|de|> <|transcribe|> <|notimestamps|> text
                      `stacked` frames each   the prompt of whisperM2M
```
Audio is heard as whisperM2M hears it: at its own length, with nothing behind it. The projector is Voxtral's, the
decoder Qwen2's; the sizes stand in ``config.json`` under the names of Qwen2-Audio's.
"""

from __future__ import annotations

from pathlib import Path

import torch

from streamtrans.core import BadModel
from streamtrans.model.audio_lm.folder import build
from streamtrans.model.audio_lm.model import AudioLanguageModel, Manner
from streamtrans.model.audio_lm.network import AudioNetwork, Stacking
from streamtrans.model.audio_lm.qwen2_audio import shapes
from streamtrans.model.causal.kvspn import Speculation
from streamtrans.model.config import read_json, shown, whole
from streamtrans.model.loading import languages_of
from streamtrans.model.scoring import Rules
from streamtrans.model.whisper_m2m import TARGET, Prompts
from streamtrans.text import Tokenizer

ORDERS = (TARGET, "<|transcribe|>", "<|notimestamps|>")


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> AudioLanguageModel:
    """Load a folder that ``streamtrans export`` made of such a training."""
    raw = read_json(folder / "config.json")
    tower, language = shapes(raw)
    each = whole(raw, ("stacked",))["stacked"]
    if each > tower.positions:
        raise BadModel(f"stacked is {shown(each)}, and the encoder gives {tower.positions} frames at most")
    tokenizer = Tokenizer.load(folder)
    if tokenizer.size > language.vocab_size:
        raise BadModel(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, and the network of config.json knows"
            f" {language.vocab_size}: one of the two is another model's"
        )
    with torch.device("meta"):
        projector = Stacking(tower.width, language.hidden_size, each)
        network = AudioNetwork(tower, projector, language, Speculation.of(raw, language))
    manner, rules = asking(tokenizer, languages_of(folder, raw), language.vocab_size)
    return build(folder, network, tokenizer, rules, manner, device=device, dtype=dtype, packed=packed)


def asking(tokenizer: Tokenizer, languages: tuple[str, ...], size: int) -> tuple[Manner, Rules]:
    """Return how such a model is asked, and what it may write of the ``size`` tokens that its network knows."""
    prompts = Prompts(tokenizer, languages, ORDERS)
    special = {token for token in range(size) if token >= tokenizer.size or tokenizer.is_special(token)}
    manner = Manner(languages, (tokenizer.sot,), lambda target, source: prompts(target, source)[1:], False, ended=True)
    return manner, Rules(size, tokenizer.eot, frozenset(special - {tokenizer.eot}))
