"""Two models in a row: one hears and writes the spoken language, the other translates what was written.

Law: every line of captions is spelt by the vocabulary of the model that writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from streamtrans.core import BadModel
from streamtrans.stream.lines import Speller
from streamtrans.text import Pieces, Tokenizer, Vocabulary

_KIND = "stages"


@dataclass(frozen=True, slots=True)
class Stages:
    """The spellers of both: ``ear`` of the spoken language, ``translator`` of all others."""

    ear: Speller
    translator: Speller

    def of(self, language: str, source: str | None) -> Speller:
        """Return who spells ``language`` where ``source`` is spoken."""
        return self.ear if language == source else self.translator


Spellers = Speller | Stages
"""Who spells the captions of a session."""


def spelling(spellers: Spellers, language: str, source: str | None) -> Speller:
    """Return who spells ``language`` where ``source`` is spoken."""
    return spellers.of(language, source) if isinstance(spellers, Stages) else spellers


def layout(ear: Vocabulary, translator: Vocabulary | None) -> str:
    """Return what a recording keeps of the vocabularies of a session."""
    if translator is None:
        return ear.layout()
    return json.dumps({"type": _KIND, "ear": json.loads(ear.layout()), "translator": json.loads(translator.layout())})


def read_layout(said: object, *, origin: str) -> Vocabulary | Stages:
    """Build what :func:`layout` said.

    Raises:
        BadModel: it is none; ``origin`` is what the message calls it.
    """
    kind = said.get("type") if isinstance(said, dict) else None
    if isinstance(said, dict) and kind == _KIND:
        ear, translator = (read_layout(said.get(name), origin=origin) for name in ("ear", "translator"))
        if isinstance(ear, Stages) or isinstance(translator, Stages):
            raise BadModel(f"{origin}: a stage is one model, not two")
        return Stages(ear, translator)
    return Pieces.of(said, origin=origin) if kind == "pieces" else Tokenizer.of(said, origin=origin)
