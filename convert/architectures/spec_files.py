"""The architecture files that come with Equipoise."""

from __future__ import annotations

from pathlib import Path

ARCHS_FOLDER = Path(__file__).parents[1] / "archs"


def spec_names() -> tuple[str, ...]:
    """Returns the model types that have an architecture file, sorted."""
    return tuple(sorted(path.stem for path in ARCHS_FOLDER.glob("*.toml")))
