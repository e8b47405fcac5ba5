"""Hints of errors: how to install what is missing, in words that work (Equipoise itself is in no registry), and which known
name a misspelt one is nearest to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, requires

_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def install_hint(*extras: str) -> str:
    """Returns the command that installs the packages of extras, and its form for a checkout.

    >>> install_hint("hub")
    "pip install 'huggingface_hub>=0.30' (in a checkout of Equipoise: pip install -e '.[hub]')"

    Args:
        *extras: Names under ``[project.optional-dependencies]`` in pyproject.toml.
    """
    packages = " ".join(f"'{one}'" for one in dict.fromkeys(_packages(frozenset(extras))))
    checkout = f"pip install -e '.[{','.join(extras)}]'"
    if not packages:
        return f"{checkout} in a checkout of Equipoise"
    return f"pip install {packages} (in a checkout of Equipoise: {checkout})"


def _packages(extras: frozenset[str]) -> list[str]:
    """Returns the requirements of extras, as the installed package declares them."""
    try:
        declared = requires("equipoise") or []
    except PackageNotFoundError:
        return []
    found = []
    for line in declared:
        requirement, _, marker = line.partition(";")
        extra = _EXTRA.search(marker)
        if extra and extra[1] in extras:
            found.append(requirement.strip())
    return found


MOST_SUGGESTIONS = 3


def did_you_mean(name: str, known: Iterable[str], *, least: float = 0.6) -> str | None:
    """Returns a question with the nearest of the known names, or with those few that contain it; None if none is near.

    Args:
        name: The misspelt name.
        known: Names that would be right.
        least: How similar a name must be, from 0 to 1.

    >>> did_you_mean("text-clasification", ["fill-mask", "text-classification"])
    "did you mean 'text-classification'?"
    """
    names = list(known)
    containing = [one for one in names if name and name.lower() in one]
    if 1 < len(containing) <= MOST_SUGGESTIONS:
        return f"did you mean {', '.join(map(repr, containing[:-1]))} or {containing[-1]!r}?"
    near = get_close_matches(name, names, n=1, cutoff=least) or get_close_matches(
        name.lower(), names, n=1, cutoff=least
    )
    return f"did you mean {near[0]!r}?" if near else None
