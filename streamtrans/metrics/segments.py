"""Align the text of a whole talk with the sentences of its reference.

Two rules are in use: fewest word errors in total, and most likeness of words. Both tables are filled row by row,
so that an hour of speech takes less than a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_BOTH, _REFERENCE, _HYPOTHESIS = 0, 1, 2
"""What a step of the alignment uses up: a unit of both sides, or of one."""


def cut_like(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> list[range]:
    """Return per reference the stretch of ``hypothesis`` that belongs to it; together they cover all of it.

    The cuts make the edit distances between stretches and references smallest in total; case is ignored. Units
    that fit nowhere stay with what is before them. It is the rule of mWERSegmenter (Matusov et al. 2005,
    "Evaluating Machine Translation Output with Automatic Sentence Segmentation",
    https://aclanthology.org/2005.iwslt-1.19), for one reference per sentence.

    Args:
        hypothesis: the units of a talk, ``(J,)``.
        references: the units of each sentence, ``I`` together; time and memory are in ``O(I J)``.
    """
    if not references:
        return []
    ends = np.cumsum([len(reference) for reference in references])
    steps = _steps([unit.lower() for unit in hypothesis], [unit.lower() for line in references for unit in line])
    read, cuts = len(hypothesis), [len(hypothesis)] * len(references)
    row = int(ends[-1])
    for index in reversed(range(len(references) - 1)):
        while row > ends[index]:
            step = steps[row, read]
            row -= step != _HYPOTHESIS
            read -= step != _REFERENCE
        cuts[index] = read
    return [range(start, end) for start, end in zip([0, *cuts], cuts, strict=False)]


def soft_pairs(
    reference: Sequence[str], hypothesis: Sequence[str], likeness: Callable[[str, str], float]
) -> list[tuple[int | None, int | None]]:
    """Return the alignment of most likeness: indices of both sides in order, ``None`` for a gap.

    The rule of SoftSegmenter (Polák et al. 2025, arXiv 2509.17349): gaps cost nothing; of equals a pair comes
    first, then a unit of the reference alone.

    Args:
        reference: units, ``(I,)``.
        hypothesis: units, ``(J,)``.
        likeness: of a unit of each side; asked once for each two different ones.
    """
    rows, columns = list(dict.fromkeys(reference)), list(dict.fromkeys(hypothesis))
    table = np.array([[likeness(row, column) for column in columns] for row in rows])
    row_of, column_of = ({unit: index for index, unit in enumerate(each)} for each in (rows, columns))
    order = np.array([column_of[unit] for unit in hypothesis], np.int32)
    steps = np.full((len(reference) + 1, len(hypothesis) + 1), _HYPOTHESIS, np.int8)
    steps[1:, 0] = _REFERENCE
    total = np.zeros(len(hypothesis) + 1)
    for row, unit in enumerate(reference, 1):
        both = total[:-1] + table[row_of[unit], order] if columns else total[:-1]
        above = total[1:]
        total = np.maximum.accumulate(np.append(0.0, np.maximum(both, above)))
        beside = total[:-1]
        paired = (both >= above) & (both >= beside)
        steps[row, 1:] = np.where(paired, _BOTH, np.where(above >= beside, _REFERENCE, _HYPOTHESIS))
    pairs: list[tuple[int | None, int | None]] = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        step = steps[row, column]
        row -= step != _HYPOTHESIS
        column -= step != _REFERENCE
        pairs.append((row if step != _HYPOTHESIS else None, column if step != _REFERENCE else None))
    return pairs[::-1]


def _steps(hypothesis: Sequence[str], reference: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return per pair of beginnings the last step of a cheapest alignment, ``(I + 1, J + 1)``.

    Of equally cheap ones the step that leaves a unit alone comes first, the reference's before the
    hypothesis's: then the cuts are those of the package mweralign, which StreamLAAL is published with.
    """
    names = {unit: number for number, unit in enumerate(dict.fromkeys([*hypothesis, *reference]))}
    numbers = np.array([names[unit] for unit in hypothesis], np.int32)
    positions = np.arange(len(hypothesis) + 1)
    steps = np.full((len(reference) + 1, len(hypothesis) + 1), _HYPOTHESIS, np.int8)
    cost = positions
    for row, unit in enumerate(reference, 1):
        both = np.append(len(hypothesis) + row + 1, cost[:-1] + (numbers != names[unit]))  # none in column 0
        below = cost + 1
        # min over k <= j of without[k] + (j - k): a run of hypothesis units that stand for nothing
        without = np.minimum(both, below)
        best = np.minimum.accumulate(without - positions) + positions
        beside = np.append(len(hypothesis) + row + 1, best[:-1] + 1)
        steps[row] = np.where(best == below, _REFERENCE, np.where(best == beside, _HYPOTHESIS, _BOTH))
        cost = best
    return steps
