"""How near texts are to their references: corpus scores from sacreBLEU and jiwer.

Texts are compared as they are, case included: bring both sides to one style first. The two packages belong to
the ``eval`` extra and are imported when a score is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from streamtrans.core import BadConfig, needs
from streamtrans.text import canonical, joins_without_spaces


def bleu(hyps: Sequence[str], refs: Sequence[str], language: str) -> float:
    """Return the corpus BLEU, 0 to 100 (Papineni et al. 2002, as sacreBLEU computes it; arXiv 1804.08771).

    Args:
        hyps: what was written; may hold empty texts.
        refs: one reference each.
        language: decides the tokenizer: ``zh`` for Chinese, characters for other languages written without
            spaces, ``13a`` for the rest.

    Raises:
        BadConfig: there is nothing to compare, or sacreBLEU is missing.
    """
    _check(hyps, refs)
    metric = _package("sacrebleu.metrics").BLEU(tokenize=_tokenizer(language), force=True)
    return float(metric.corpus_score(list(hyps), [list(refs)]).score)


def bleu_signature(language: str) -> str:
    """Return sacreBLEU's signature of what :func:`bleu` computes for ``language``; to be told with the score.

    Raises:
        BadConfig: sacreBLEU is missing.
    """
    metric = _package("sacrebleu.metrics").BLEU(tokenize=_tokenizer(language), force=True)
    metric.corpus_score(["a"], [["a"]])  # the signature is known once something was scored
    return str(metric.get_signature())


def chrf(hyps: Sequence[str], refs: Sequence[str], *, word_order: int = 0) -> float:
    """Return the corpus chrF2, 0 to 100 (Popović 2015, https://aclanthology.org/W15-3049, as in sacreBLEU).

    With ``word_order`` 2 it is chrF++, which also counts words and pairs of them: no measure of Chinese.

    Raises:
        BadConfig: there is nothing to compare, or sacreBLEU is missing.
    """
    _check(hyps, refs)
    metric = _package("sacrebleu.metrics").CHRF(word_order=word_order)
    return float(metric.corpus_score(list(hyps), [list(refs)]).score)


def word_error_rate(hyps: Sequence[str], refs: Sequence[str], language: str) -> float:
    """Return edits per reference word over the whole corpus; 0 is perfect, more than 1 is possible.

    For languages written without spaces it counts characters and ignores spaces.

    Raises:
        BadConfig: there is nothing to compare, a reference has no words, or jiwer is missing.
    """
    _check(hyps, refs)
    empty = next((index for index, ref in enumerate(refs) if not ref.strip()), None)
    if empty is not None:
        raise BadConfig(f"reference {empty} has no words: leave such rows out, errors can't be counted there")
    jiwer = _package("jiwer")
    if joins_without_spaces(language):
        return float(jiwer.cer(["".join(ref.split()) for ref in refs], ["".join(hyp.split()) for hyp in hyps]))
    return float(jiwer.wer(list(refs), list(hyps)))


def _tokenizer(language: str) -> str:
    if canonical(language) in ("zh", "yue"):
        return "zh"
    return "char" if joins_without_spaces(language) else "13a"


def _check(hyps: Sequence[str], refs: Sequence[str]) -> None:
    if isinstance(hyps, str) or isinstance(refs, str):
        raise BadConfig("give lists of texts, one per utterance, not one text")
    if len(hyps) != len(refs):
        raise BadConfig(f"{len(hyps)} texts for {len(refs)} references: give one reference per text")
    if not any(ref.strip() for ref in refs):
        raise BadConfig(f"{len(refs)} references and not a word in them: there is nothing to compare with")


def _package(name: str) -> ModuleType | Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise BadConfig(needs("this score", package, "eval")) from None
