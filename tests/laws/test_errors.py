"""Law: what goes wrong is caught by name. Whatever comes is caught only where something must outlive it."""

import ast
from pathlib import Path

import streamtrans_clients

import streamtrans

HOUSE = Path(streamtrans.__file__).parent
ROOTS = (HOUSE, Path(streamtrans_clients.__file__).parent)

DECLARED = {
    "engine/outcomes.py",  # the device thread outlives whatever a job raises
    "server/ending.py",  # the RPC boundary
    "text/sentencepieces.py",  # the same as the next
    "text/tokenizer.py",  # tokenizers raises Exception itself; whatever is narrower goes on
}


def broad(handler):
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in kinds
    )


def test_nobody_waits_in_a_way_that_forgets_a_cancellation():
    """Before Python 3.12 ``asyncio.wait_for`` does where what it waits for ends in the same moment: a call hangs."""
    found = [
        path.name
        for root in ROOTS
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "wait_for"
        and isinstance(node.value, ast.Name)
        and node.value.id == "asyncio"
    ]
    assert not found, "use asyncio.timeout"


def test_whatever_comes_is_caught_in_declared_places_only():
    found = [
        path.relative_to(HOUSE).as_posix() if path.is_relative_to(HOUSE) else path.name
        for root in ROOTS
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and broad(node)
    ]
    assert sorted(found) == sorted(DECLARED)
