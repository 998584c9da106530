"""One Chinese script: traditional characters written as simplified ones.

The spoken requests are simplified, half of the everyday sentences are traditional; a model that saw both
would write both. ``simplified.txt`` pairs the traditional characters that occur with simplified ones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

# Characters of two readings, decided by their neighbour.
_BY_NEIGHBOUR = (
    (re.compile("甚麼"), "什么"),
    (re.compile("乾(?![坤隆])"), "干"),
    # A verb's ending, but "famous", "book", "author" and "striking" keep the old form.
    (re.compile("(?<![名显顯专專卓])著(?![名作者称稱])"), "着"),
)


def simplify(text: str) -> str:
    """Return ``text`` in simplified characters; text that is simplified already stays as it is."""
    if text.isascii():
        return text
    for pattern, simplified in _BY_NEIGHBOUR:
        text = pattern.sub(simplified, text)
    return text.translate(_table())


@lru_cache(maxsize=1)
def _table() -> dict[int, str]:
    file = resources.files("streamtrans.corpus").joinpath("simplified.txt")
    return {ord(pair[0]): pair[1] for pair in file.read_text(encoding="utf-8").split()}
