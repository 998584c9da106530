"""Fill the empty translations of a manifest: ``streamtrans corpus pseudo-label``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.text import canonical
from streamtrans.train.finetune.corpus import Example
from streamtrans.train.finetune.pseudo import fill_in
from streamtrans.train.finetune.readers import PLAIN_COLUMNS, Line, Problem, read_manifest
from streamtrans.train.finetune.recipe import PseudoRecipe, Source


def label_manifest(
    manifest: Path, out: Path, recipe: PseudoRecipe, *, device: str = "auto", say: Callable[[str], None] = print
) -> int:
    """Write ``manifest`` to ``out`` with translations into ``recipe.to`` filled in; returns how many were made.

    Rows keep their order and their own translations; which were made here stands in the column ``pseudo``. Lines
    that can't be translated are reported and left out. Audio is not looked at. What was translated before an
    interruption stands in a file beside ``out`` and is not made again.

    Raises:
        BadConfig: the manifest is no manifest, or no language to fill in is named.
        BadModel: the translation model can't be loaded.
    """
    if not recipe.to:
        raise BadConfig("name the languages to fill in, such as --to de,fr")
    if manifest.resolve() == out.resolve():
        raise BadConfig(f"{out} is the manifest itself; name another file to write")
    targets = tuple(canonical(code) for code in recipe.to)
    examples: list[Example] = []
    for line in read_manifest(Source("manifest", str(manifest)), targets):
        found = _example(line)
        if isinstance(found, Problem):
            say(f"left out: {found}")
        else:
            examples.append(found)
    cache = out.with_name(f"{out.name}.partial")
    labelled = fill_in(examples, targets, recipe, cache, device=device, say=say)
    _write(out, labelled)
    cache.unlink()
    return sum(len(after.texts) - len(before.texts) for before, after in zip(examples, labelled, strict=True))


def _example(line: Line | Problem) -> Example | Problem:
    if isinstance(line, Problem):
        return line
    if not line.text.strip():
        return Problem(line.where, "empty text", "there is nothing to translate")
    try:
        language = canonical(line.language)
        texts = {canonical(code): text.strip() for code, text in line.texts.items() if text.strip()}
    except UnsupportedLanguage as error:
        return Problem(line.where, "unknown language", str(error))
    pseudo = tuple(code for code in map(canonical, line.pseudo) if code in texts)
    return Example(line.where, str(line.audio), 0.0, language, {**texts, language: line.text.strip()}, line.id, pseudo)


def _write(out: Path, examples: Sequence[Example]) -> None:
    columns = sorted({code for example in examples for code in example.texts if code != example.language})
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        if out.suffix != ".jsonl":
            file.write("\t".join([*PLAIN_COLUMNS, *columns]) + "\n")
        for example in examples:
            # The manifest moves, its audio does not.
            audio = os.path.relpath(example.audio, out.parent)
            plain = (audio, example.texts[example.language], example.language, example.id, ",".join(example.pseudo))
            others = (example.texts.get(code, "") if code != example.language else "" for code in columns)
            row = dict(zip((*PLAIN_COLUMNS, *columns), (*plain, *others), strict=True))
            if out.suffix == ".jsonl":
                file.write(json.dumps({name: text for name, text in row.items() if text}, ensure_ascii=False) + "\n")
            else:
                file.write("\t".join(" ".join(text.split()) for text in row.values()) + "\n")
    os.replace(part, out)
