"""Merging of whole checkpoint folders, whatever the method."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from streamtrans.compress.weights import Weights, check_new, write_folder
from streamtrans.core import BadConfig, BadModel
from streamtrans.foreign import Table
from streamtrans.model.config import read_json
from streamtrans.model.loading import find_folder
from streamtrans.runtime import weights_sha256

CARD = "merge.json"
"""What a merged folder says of its making, so that a language can be added to it."""

_MATRIX = re.compile(r"(attn|attention|mlp|fc1|fc2)\b.*\.weight$")
"""Matrices of attention and MLPs, in transformers' names or OpenAI's; all else is kept whole, as in the paper."""

_KIN = 0.5
"""Cosine between a matrix and its ancestor's: above 0.9 after fine-tuning, about 0 between strangers."""


class Method(Protocol):
    """Says what is kept of each model's difference from the ancestor, and how the kept are joined."""

    additive: bool
    """Whether what is joined is a sum, so that another model can be added to a merged one."""

    def scale(self, count: int) -> float:
        """Return λ, the usual factor of what ``count`` models join to."""
        ...

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:
        """Return what is kept of a matrix's difference; ``name`` and ``model`` are for methods that draw lots."""
        ...

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Join what is kept of all models, before λ."""
        ...


METHODS: Table[Callable[..., Method]] = Table(
    "merging method",
    {
        "lors": "streamtrans.compress.merging.lors:LowRankAndSparse",
        "task": "streamtrans.compress.merging.task:TaskArithmetic",
        "mean": "streamtrans.compress.merging.mean:Mean",
        "ties": "streamtrans.compress.merging.ties:Ties",
        "dare": "streamtrans.compress.merging.dare:Dare",
    },
)
"""Method → a frozen dataclass whose fields are its options."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged.

    ``energy`` is the share of each model's squared difference that the method kept; ``likeness`` the cosine between the
    differences of two models: near 0 they don't disturb each other.
    """

    models: tuple[str, ...]
    method: str
    scale: float
    energy: Mapping[str, float]
    likeness: Mapping[tuple[str, str], float] = field(default_factory=dict)


def load_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Return a method of the table with ``options`` in place of its defaults.

    Raises:
        BadConfig: there is no such method or option, or a value doesn't fit.
    """
    kind = METHODS.load(name)
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    if unknown := [option for option in options or {} if option not in known]:
        raise BadConfig(f"{name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return kind(**(options or {}))


def merge(
    base: str | Path,
    models: Mapping[str, str | Path],
    destination: str | Path,
    *,
    method: str = "lors",
    options: Mapping[str, Any] | None = None,
    scale: float | None = None,
) -> Merged:
    """Write the merger of ``models`` (name → folder), all fine-tuned from ``base``, as a folder.

    Args:
        base: the ancestor, folder or hub name.
        models: two or more, of the ancestor's shape.
        destination: a new folder.
        method: one of :data:`METHODS`.
        options: of the method.
        scale: λ; by default what the method says for so many models.

    Raises:
        BadModel: a folder's shape differs, its numbers aren't finite, or ``base`` isn't its ancestor.
        BadConfig: fewer than two models, an unknown method, or the destination isn't new.
    """
    if len(models) < 2:
        raise BadConfig(f"{len(models)} model can't be merged; name two or more, such as --model de=FOLDER")
    chosen = load_method(method, options)
    making = _Making(find_folder(base), {name: find_folder(where) for name, where in models.items()}, chosen)
    making.factor = chosen.scale(len(models)) if scale is None else scale
    card = {"method": method, "options": asdict(chosen), "scale": scale}  # type: ignore[call-overload]
    return making.write(Path(destination), card, before=[])


def add_to_merged(
    base: str | Path, merged: str | Path, models: Mapping[str, str | Path], destination: str | Path
) -> Merged:
    """Write ``merged`` with more models in it; of the models that are in it already nothing is needed.

    The method, its options and λ are those of the merged folder. Where λ was not set but one part of the number of
    models, what is in it already counts for less, as if all had been merged at once.

    Raises:
        BadModel: as :func:`merge`; or ``merged`` is no merged folder, or of another ancestor.
        BadConfig: a name is in it already, or its method needs all models at once.
    """
    folder, origin = find_folder(merged), find_folder(base)
    card = _read_card(folder, origin)
    chosen, inside = load_method(card["method"], card["options"]), [part["name"] for part in card["models"]]
    if not chosen.additive:
        raise BadConfig(
            f"{card['method']} looks at all models at once; merge {', '.join(inside)} and the new ones anew"
        )
    if not models or set(models) & set(inside):
        raise BadConfig(f"{folder} holds {', '.join(inside)}; name models that it doesn't hold")
    making = _Making(origin, {name: find_folder(where) for name, where in models.items()}, chosen, onto=folder)
    if card["scale"] is None:
        making.factor = chosen.scale(len(inside) + len(models))
        making.weight = making.factor / chosen.scale(len(inside))
    else:
        making.factor = card["scale"]
    return making.write(Path(destination), card, before=card["models"])


@dataclass(slots=True)
class _Making:
    """A merger in the making: ``weight`` times what ``onto`` learnt, and ``factor`` times what the models join to."""

    base: Path
    models: Mapping[str, Path]
    method: Method
    onto: Path | None = None
    factor: float = 1.0
    weight: float = 1.0
    _all: dict[str, float] = field(default_factory=dict)
    _kept: dict[str, float] = field(default_factory=dict)
    _dots: dict[tuple[str, str], float] = field(default_factory=dict)

    def write(self, target: Path, card: Mapping[str, Any], before: Sequence[Mapping[str, str]]) -> Merged:
        """Merge tensor by tensor, and write the folder; ``before`` are the models that ``onto`` holds."""
        check_new(target)
        with ExitStack() as stack:
            ancestor = stack.enter_context(Weights(self.base))
            children = {name: stack.enter_context(Weights(folder)) for name, folder in self.models.items()}
            onto = None if self.onto is None else stack.enter_context(Weights(self.onto))
            for child in (*children.values(), *([] if onto is None else [onto])):
                child.check_like(ancestor)
                _check_kin(child, ancestor)
            tensors = {name: self._merge(name, ancestor, children, onto) for name in ancestor}
            parts = [{"name": name, "sha256": weights_sha256(folder)} for name, folder in self.models.items()]
            also = {CARD: {**card, "base": weights_sha256(self.base), "models": [*before, *parts]}}
            write_folder(target, tensors, like=self.base, also=also)
        energy = {name: self._kept[name] / self._all[name] if self._all[name] else 1.0 for name in self.models}
        likeness = {
            (one, other): dot / max((self._all[one] * self._all[other]) ** 0.5, 1e-30)
            for (one, other), dot in self._dots.items()
        }
        names = (*(part["name"] for part in before), *self.models)
        return Merged(names, card["method"], self.factor, energy, likeness)

    def _merge(self, name: str, ancestor: Weights, children: Mapping[str, Weights], onto: Weights | None) -> Tensor:
        origin = ancestor[name]
        if not origin.is_floating_point():
            return origin
        learnt = {model: child[name].float() - origin.float() for model, child in children.items()}
        kept = {
            model: self.method.keep(each, name, model) if is_matrix(name, each) else each
            for model, each in learnt.items()
        }
        for model, each in learnt.items():
            self._all[model] = self._all.get(model, 0.0) + float(each.square().sum())
            self._kept[model] = self._kept.get(model, 0.0) + float(kept[model].square().sum())
        for pair in itertools.combinations(learnt, 2):
            self._dots[pair] = self._dots.get(pair, 0.0) + float((learnt[pair[0]] * learnt[pair[1]]).sum())
        merged = origin.float() + self.factor * self.method.join(list(kept.values()))
        if onto is not None:
            merged += self.weight * (onto[name].float() - origin.float())
        return merged.to(origin.dtype)


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a matrix of attention or of an MLP; what a method leaves out, it leaves out of those."""
    return tensor.dim() == 2 and _MATRIX.search(name) is not None


def _check_kin(child: Weights, ancestor: Weights) -> None:
    """Refuse a model that isn't fine-tuned from ``ancestor``: where nearly all of it differs.

    Raises:
        BadModel: it isn't.
    """
    dot = mine = theirs = 0.0
    for name in ancestor:
        origin = ancestor[name]
        if is_matrix(name, origin):
            one, other = child[name].double(), origin.double()
            dot, mine, theirs = (
                dot + float((one * other).sum()),
                mine + float(one.square().sum()),
                theirs + float(other.square().sum()),
            )
    cosine = dot / max((mine * theirs) ** 0.5, 1e-30)
    if cosine < _KIN:
        raise BadModel(
            f"{child.folder} isn't descended from {ancestor.folder}: their matrices have a cosine of {cosine:.2f};"
            " name the checkpoint that it was fine-tuned from"
        )


def _read_card(folder: Path, base: Path) -> dict[str, Any]:
    """Read what a merged folder says of its making.

    Raises:
        BadModel: it says nothing, something else, or another ancestor.
    """
    if not (folder / CARD).exists():
        raise BadModel(f"{folder} has no {CARD}: it wasn't made by merging; merge it with the others anew")
    card = read_json(folder / CARD)
    options, scale, models = card.get("options"), card.get("scale"), card.get("models")
    fine = isinstance(options, dict) and (scale is None or isinstance(scale, int | float)) and isinstance(models, list)
    if not fine or not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in models or [None]):
        raise BadModel(f"{folder / CARD} isn't what merging writes; merge the models anew")
    if card.get("base") != weights_sha256(base):
        raise BadModel(f"{folder} was merged on another ancestor than {base}; name the one that it was merged on")
    return card
