"""The targets whose coverage is measured: how their programs are run, and where the results are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.core.output_folder import write_atomic

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


@dataclass(frozen=True)
class Covered:
    """A target.

    Attributes:
        results: The file of the results.
        page: The page that is written from them.
        title: Of the page.
        run: The function of ``export_worker.py`` that runs a program.
        kinds: In which ways it is run.
        about: How a program is made and run, in the middle of a sentence.
    """

    results: Path
    page: Path
    title: str
    run: str
    kinds: tuple[str, ...]
    about: str


TARGETS = {
    "onnx": Covered(
        HERE / "results" / "export-coverage.json",
        DOCS / "export-coverage.md",
        "Export coverage",
        "run_onnx",
        ("optimized", "plain"),
        "exported to ONNX in the ways that `equipoise export` has, run on ONNX Runtime with its\n"
        "rewriting and without",
    ),
    "stablehlo": Covered(
        HERE / "results" / "jax-coverage.json",
        DOCS / "jax-coverage.md",
        "Coverage of JAX programs",
        "run_stablehlo",
        ("program",),
        "made JAX programs with `equipoise export --to stablehlo`, loaded and run by JAX alone",
    ),
    "saved-model": Covered(
        HERE / "results" / "saved-model-coverage.json",
        DOCS / "saved-model-coverage.md",
        "Coverage of SavedModels",
        "run_saved_model",
        ("program",),
        "made SavedModels with `equipoise export --to saved-model`, loaded and run by TensorFlow alone",
    ),
}


class Kept:
    """What was found so far, over all parts; one part writes a file of its own.

    Args:
        target: The target.
        part: Which part.
        parts: Of how many; 1 puts all files together.
    """

    def __init__(self, target: str, part: int, parts: int) -> None:
        whole = TARGETS[target].results
        others = sorted(whole.parent.glob(f"{whole.stem}.part-*.json"))
        self.pairs: dict[str, Any] = {}
        for path in (whole, *others):
            self.pairs.update(json.loads(path.read_text())["pairs"] if path.exists() else {})
        self.path = whole if parts == 1 else whole.with_suffix(f".part-{part}.json")
        self.own = self.pairs if parts == 1 else {}
        self.merged = others if parts == 1 else []

    def add(self, key: str, found: dict[str, Any]) -> None:
        """Keeps one result, on disk too."""
        self.pairs[key] = self.own[key] = found
        self._write()

    def save(self) -> None:
        """Writes everything; files of parts that are in it now go."""
        self._write()
        for path in self.merged:
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_atomic(self.path, json.dumps({"pairs": self.own}, indent=1, sort_keys=True) + "\n")
