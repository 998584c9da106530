"""The program, as the tests of its other verbs run it."""

from tests.cli.conftest import run

__all__ = ["run"]
