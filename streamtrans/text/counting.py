"""How many words a text has, in whatever script."""

from __future__ import annotations

import re

_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Characters of scripts that write words without spaces: Thai, Lao, Burmese, Khmer, kana, Han."""


def words_in(text: str) -> int:
    """Return about how many words a text has; of scripts without spaces two letters make one."""
    dense = sum(map(str.isalpha, _DENSE.findall(text)))
    spaced = sum(any(map(str.isalnum, word)) for word in _DENSE.sub(" ", text).split())
    return max(1, spaced + (dense + 1) // 2)
