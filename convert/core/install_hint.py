"""Says how to install what is missing, in words that work: Equipoise itself is in no registry."""

from __future__ import annotations

import re
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
