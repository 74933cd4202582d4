"""Prints a constraints file with the lowest versions that pyproject.toml allows; `make test-minimum` installs with it.

It is derived and not stored, so that it cannot differ from pyproject.toml. pip has no option for this, and uv's
`--resolution lowest-direct` ignores a torch build that pip finds on disk.

An argument such as torch==2.13.0 replaces that package's lower bound.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(project: dict) -> dict[str, str]:
    """The lower bound of every requirement of the package and of its extras."""
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements += extra
    bounds: dict[str, str] = {}
    for requirement in requirements:
        name, bound = re.match(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=([\w.]+))?", requirement).groups()
        if name == project["name"]:
            continue
        if bound is None or bounds.setdefault(name, bound) != bound:
            sys.exit(f"pyproject.toml: {requirement}: give every requirement one lower bound, as name>=version")
    return bounds


if __name__ == "__main__":
    versions = lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"])
    versions |= dict(argument.split("==") for argument in sys.argv[1:])
    print("\n".join(f"{name}=={version}" for name, version in versions.items()))
