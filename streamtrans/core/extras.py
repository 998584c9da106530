"""What to say where a package is missing that only some need."""


def needs(what: str, package: str, extra: str) -> str:
    """Say that ``what`` needs ``package``, and how to get it; ``extra`` is the group of ours that it belongs to.

    The package's own name always installs; the extra is known only to pip in a clone of ours.
    """
    return f"{what} needs the package {package}: pip install {package} (in a clone: pip install '.[{extra}]')"
