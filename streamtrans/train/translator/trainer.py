"""Train a translator of texts as its recipe says: on one thread or a GPU, resumable at any step.

```
runs/<name>/model/        the averaged network as transformers saves it: what is measured, and served
runs/<name>/state.pt      what the run goes on from
runs/<name>/log.jsonl, held.jsonl, held/STEP.tsv
```
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import M2M100Config, M2M100ForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from streamtrans.allocator import keep_freed
from streamtrans.core import BadConfig
from streamtrans.decode import greedy
from streamtrans.metrics import bleu, chrf
from streamtrans.model.api import TextModel, Written
from streamtrans.model.linear import has_bfloat16
from streamtrans.model.loading import load_translator
from streamtrans.train.diverged import Diverged
from streamtrans.train.finetune.evaluation import converse_all
from streamtrans.train.losses import cross_entropy
from streamtrans.train.optim import learning_rate, make_optimizers, set_learning_rate
from streamtrans.train.stopping import stoppable
from streamtrans.train.translator.pairs import Pair, PairBatch, Pairs, batches
from streamtrans.train.translator.recipe import TranslatorRecipe, load_translator_recipe
from streamtrans.train.translator.vocabulary import COMMANDS, TextVocabulary, learn_vocabulary

CLIP = 1.0
TOGETHER = 64
"""Texts that are translated at once when the held ones are looked at."""
TWICE, SPARE_TOKENS = 2, 12
"""A translation of more than twice as many tokens as its text, and some, is a loop, and is cut off."""


@dataclass(frozen=True, slots=True)
class TranslatorConfig:
    """How to run, as opposed to what: nothing here changes the recipe."""

    recipe: str
    runs: str = "runs"
    device: str = "cpu"
    save_every: int = 50
    log_every: int = 10


def train_translator(config: TranslatorConfig) -> Path:
    """Train, or go on training; returns the folder of the run.

    Raises:
        BadConfig: the recipe is wrong, or a table that it names.
        Stopped: a signal came; the step it came in is saved.
    """
    recipe = load_translator_recipe(config.recipe)
    keep_freed()
    disable_progress_bar()
    if config.device == "cpu":
        torch.set_num_threads(1)
    run = _Run(recipe, config)
    run.learn()
    return run.folder


class _Run:
    def __init__(self, recipe: TranslatorRecipe, config: TranslatorConfig) -> None:
        self.recipe, self.config = recipe, config
        self.folder = Path(config.runs) / recipe.name
        self.model = self.folder / "model"
        (self.folder / "held").mkdir(parents=True, exist_ok=True)
        self.pairs = Pairs(recipe)
        self.held = {"held": self.pairs.held, "manifest": self.pairs.scored}
        learn_vocabulary(recipe, self.pairs.texts(), self.model)
        self.vocabulary = TextVocabulary(self.model)
        _check_room(recipe, self.vocabulary, [pair for pairs in self.held.values() for pair in pairs])
        torch.manual_seed(recipe.seed)
        self.network = M2M100ForConditionalGeneration(_network(recipe, self.vocabulary)).to(config.device).train()
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizers = make_optimizers(self.network, recipe.training)
        self.average = [parameter.detach().clone() for parameter in self.trained]
        self.step = 0
        self._resume()

    def learn(self) -> None:
        """Take the remaining steps."""
        began, first, noted = time.monotonic(), self.step, dict[str, float]()
        steps = self.recipe.training.steps
        with stoppable(self._stop) as stopping:
            for batch in batches(self.pairs, self.vocabulary, self.step):
                if self.step == steps:
                    break
                with stopping.step():
                    for name, value in self._take_step(batch).items():
                        noted[name] = noted.get(name, 0.0) + value / self.config.log_every
                    self.step += 1
                    if self.step % self.config.log_every == 0:
                        self._log(noted, (time.monotonic() - began) / (self.step - first))
                        noted.clear()
                    look = self.step % self.recipe.held.every == 0 or self.step == steps
                    if look or self.step % self.config.save_every == 0:
                        self._save()
                    if look:
                        self._look()

    def _stop(self) -> str:
        self._save()
        return f"step {self.step} of {self.recipe.training.steps} is saved in {self.folder}"

    def _take_step(self, batch: PairBatch) -> dict[str, float]:
        training, device = self.recipe.training, self.config.device
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # what is dropped out is a function of the step
        set_learning_rate(self.optimizers, learning_rate(training, self.step))
        read, real, begun, labels = (
            tensor.to(device) for tensor in (batch.read, batch.real, batch.begun, batch.labels)
        )
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu" or has_bfloat16()):
            hidden = self.network.model(
                input_ids=read, attention_mask=real.long(), decoder_input_ids=begun, use_cache=False
            ).last_hidden_state
            loss = cross_entropy(hidden, self.network.model.shared.weight, labels, smoothing=training.smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.trained, CLIP))
        if not math.isfinite(norm):
            raise Diverged(f"{self.recipe.name}, step {self.step}: loss {float(loss)}, gradient's norm {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(training.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [parameter.data for parameter in self.trained], 1 - decay)
        return {"loss": float(loss.detach()), "norm": norm, "tokens": float((labels >= 0).sum())}

    def _look(self) -> None:
        """Translate what is held out with the averaged weights, as they are served."""
        model = load_translator(self.model, device=self.config.device, dtype="float32")
        rows, line = ["of\tsource\ttarget\ttext\treference\ttranslation"], dict[str, Any]()
        for of, pairs in self.held.items():
            found = defaultdict[str, list[tuple[Pair, str]]](list)
            for pair, text in zip(pairs, translations(model, pairs), strict=True):
                found[f"{pair.source}-{pair.target}"].append((pair, text))
                cells = (of, pair.source, pair.target, pair.text, pair.translation, text)
                rows.append("\t".join(" ".join(cell.split()) for cell in cells))
            line[of] = {direction: _scores(made) for direction, made in found.items()}
        (self.folder / "held" / f"{self.step}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        with (self.folder / "held.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, **line, "time": int(time.time())}) + "\n")
        for of, scores in line.items():
            said = "  ".join(f"{name} {each['bleu']:.1f}/{each['chrf']:.1f}" for name, each in scores.items())
            print(f"{of}, step {self.step}: BLEU/chrF {said}", flush=True)

    def _log(self, terms: dict[str, float], seconds_per_step: float) -> None:
        line = {"step": self.step, "s_per_step": round(seconds_per_step, 3), **terms, "time": int(time.time())}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        said = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
        print(f"{self.step}/{self.recipe.training.steps}  {said}  {seconds_per_step:.2f} s/step", flush=True)

    def _save(self) -> None:
        """Write state and averaged network; what is half written never replaces what is whole."""
        learnt = [parameter.detach() for parameter in self.trained]
        state = {
            "step": self.step,
            "trained": learnt,
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, self.folder / "state.pt.part")
        self._put(self.average)
        self.network.save_pretrained(part := self.folder / "model.part")
        for file in part.iterdir():
            file.chmod(0o644)  # the writer leaves it readable by its owner only
            os.replace(file, self.model / file.name)
        self._put(learnt)
        os.replace(self.folder / "state.pt.part", self.folder / "state.pt")

    def _put(self, values: list[Tensor]) -> None:
        """Put other tensors into the place of the parameters'."""
        for parameter, value in zip(self.trained, values, strict=True):
            parameter.data = value

    def _resume(self) -> None:
        if not (self.folder / "state.pt").exists():
            return
        state: dict[str, Any] = torch.load(self.folder / "state.pt", map_location=self.config.device, weights_only=True)
        shapes = [value.shape for value in state["trained"]]
        if shapes != [parameter.shape for parameter in self.trained]:
            raise BadConfig(f"{self.folder} holds a network of other sizes: to change them, change the recipe's name")
        self.step, self.average = state["step"], state["average"]
        self._put(state["trained"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def translations(model: TextModel, pairs: tuple[Pair, ...]) -> list[str]:
    """Translate the texts of pairs greedily."""
    written = list[str]()
    for at in range(0, len(pairs), TOGETHER):
        memories = model.read([Written(pair.text, pair.source, pair.target) for pair in pairs[at : at + TOGETHER]])
        slots = model.allocate(len(memories))
        talks = [
            greedy(
                memory.prompt,
                (),
                slots.open(memory, memory.prompt),
                eot=model.eot,
                limit=min(TWICE * memory.frames + SPARE_TOKENS, model.max_tokens),
            )
            for memory in memories
        ]
        written += [model.vocabulary.decode(said.tokens).strip() for said in converse_all(model, talks)]
    return written


def _scores(made: list[tuple[Pair, str]]) -> dict[str, float]:
    target = made[0][0].target
    found, wanted = [text for _, text in made], [pair.translation for pair, _ in made]
    return {"bleu": round(bleu(found, wanted, target), 2), "chrf": round(chrf(found, wanted), 2)}


def _check_room(recipe: TranslatorRecipe, vocabulary: TextVocabulary, held: Sequence[Pair]) -> None:
    """Refuse texts that are to be translated while training and are longer than the network's positions.

    Raises:
        BadConfig: one is.
    """
    longest = max((len(vocabulary.question(pair.target, pair.text)) for pair in held), default=0)
    if longest > (most := recipe.network.positions):
        raise BadConfig(f"[network]: positions is {most}, and a text that is held out takes {longest}; give as many")


def _network(recipe: TranslatorRecipe, vocabulary: TextVocabulary) -> M2M100Config:
    network, dropout = recipe.network, recipe.training.dropout
    return M2M100Config(
        vocab_size=vocabulary.size,
        d_model=network.d_model,
        encoder_layers=network.encoder_layers,
        decoder_layers=network.decoder_layers,
        encoder_attention_heads=network.heads,
        decoder_attention_heads=network.heads,
        encoder_ffn_dim=network.inner,
        decoder_ffn_dim=network.inner,
        max_position_embeddings=network.positions,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        bos_token_id=COMMANDS.index("<s>"),
        pad_token_id=vocabulary.pad,
        eos_token_id=vocabulary.eos,
        decoder_start_token_id=vocabulary.eos,
        attn_implementation="eager",  # twice as fast on a CPU as what is fused, at lengths of sentences
    )
