import io

import pytest
from rich.console import Console

from streamtrans.cli.report import show

COLUMNS = [
    "setting",
    "erasure",
    "BLEU loss",
    "first caption p50",
    "commit lag p95",
    "LongYAAL",
    "passes per token",
    "[x]",
]
ROWS = [["live [calm]", *(1.2345 * each for each in range(7))], ["final", *(None for _ in range(7))]]


@pytest.mark.parametrize("width", [200, 80, 40])
def test_tables_keep_their_headers_and_names(width):
    console = Console(file=io.StringIO(), width=width)
    show("what [eval] says", COLUMNS, ROWS, console)
    said = console.file.getvalue()
    assert "what [eval] says" in said
    assert "…" not in said
    for word in " ".join(COLUMNS).split():
        assert word in said
    assert "live [calm]" in said
    assert all(len(line) <= width for line in said.splitlines())
    assert (said.count("live [calm]") > 1) == (width < 60)
