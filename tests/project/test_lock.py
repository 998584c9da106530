"""The development lock fits pyproject.toml and names no place to install from."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
PINS = dict(line.split("==") for line in LOCK.splitlines() if not line.startswith("#"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
]


@pytest.mark.parametrize("line", sorted(set(DECLARED)))
def test_every_dependency_is_pinned_within_its_range(line):
    requirements = pytest.importorskip("packaging.requirements")
    requirement = requirements.Requirement(line)
    if requirement.name == PROJECT["name"]:
        return
    assert requirement.specifier.contains(PINS[requirement.name], prereleases=True)


def test_every_line_is_an_exact_version_of_no_special_build():
    for name, version in PINS.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"\d+(\.\w+)*", version), f"{name}=={version}"


@pytest.mark.parametrize(
    "file",
    ["requirements/dev.lock", "requirements/peers.lock", "Makefile", ".ci/run", ".ci/try-wheel", "pyproject.toml"],
)
def test_nothing_says_where_to_install_from(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|trusted-host|--hash|pypi\.", text)
