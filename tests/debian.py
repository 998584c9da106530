"""Programs of Debian's that tests talk to; in a container the tests may install them themselves."""

import functools
import shutil
import subprocess

_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")


@functools.cache
def program(name, *packages):
    """Return the path of ``name``, which ``packages`` bring."""
    if shutil.which(name) is None:
        subprocess.run([*_APT, "update"], check=False)  # older lists may do, too
        subprocess.run([*_APT, "install", "-y", "--no-install-recommends", *packages], check=True)
    found = shutil.which(name)
    assert found, f"these tests need {name}: apt-get install {' '.join(packages)}"
    return found
