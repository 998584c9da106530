"""Write ``dev.lock``: the exact versions of all that ``streamtrans[dev]`` needs, as installed here.

Run it in the environment whose versions have just been tested: ``make lock``.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).with_name("dev.lock")
HEAD = """\
# Every package that developing needs, at the versions that the tests passed with. Written by `make lock`.
# torch names no build: pip takes the one that it is offered. `make` installs it before the rest.
"""


def closure(root: Requirement) -> dict[str, str]:
    """Return name → version of all that ``root`` needs on this platform, without ``root`` itself."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in ("", *root.extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        installed = distribution(requirement.name)
        found[name] = installed.version.partition("+")[0]
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, each) for each in ("", *needed.extras)]
    del found[canonicalize_name(root.name)]
    return found


def main() -> None:
    """Write the lock."""
    pins = [f"{name}=={version}" for name, version in sorted(closure(Requirement("streamtrans[dev]")).items())]
    LOCK.write_text(HEAD + "\n".join(pins) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
