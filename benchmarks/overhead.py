"""Measures the overhead of a validation over its forward passes, for a model of BERT-base's size on real texts.

    python benchmarks/overhead.py [--oracle PYTHON] [--layers 12]

The ratio is the wall time from a backend's first pass to its verdict, divided by the seconds that the worker measured within
the model. Loading is not included. Figures go to ``benchmarks/results/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from random_bert import write_random_bert

from equipoise.validators.core.request import Request
from equipoise.validators.evaluation import host
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.validate import validate

HERE = Path(__file__).parent


def main() -> None:
    """Builds the model, validates it, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle")
    parser.add_argument("--layers", type=int, default=12)
    given = parser.parse_args()
    moments: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory() as work:
        model = write_random_bert(Path(work) / "model", num_hidden_layers=given.layers)
        chosen = {"oracle": given.oracle} if given.oracle else {}
        with WorkerPool(chosen) as workers:
            request = Request(
                model,
                backends=["pytorch", *(["tensorflow", "flax"] if chosen else [])],
                divergence=False,
                threads=2,
                progress=lambda text: moments.append((time.perf_counter(), text)),
            )
            report = validate(request, workers)
    rows = []
    for result in report.backends:
        clock = wall_seconds(moments, result.label)
        rows.append(
            {
                "backend": result.backend,
                "clock": clock,
                "passes": result.seconds,
                "ratio": clock / result.seconds,
                "verdict": result.verdict.value,
            }
        )
        print(rows[-1], flush=True)
    values = {"machine": host.describe_host(), "layers": given.layers, "rows": rows}
    (HERE / "results" / "overhead.json").write_text(json.dumps(values, indent=1) + "\n")


def wall_seconds(moments: list[tuple[float, str]], label: str) -> float:
    """Returns the seconds from the start of a backend's first case to its verdict."""
    own = [(moment, text) for moment, text in moments if text.startswith(f"{label}: ")]
    passes = [moment for moment, text in own if not text.endswith((": loading", ": judged"))]
    (judged,) = [moment for moment, text in own if text.endswith(": judged")]
    return judged - passes[0]


if __name__ == "__main__":
    main()
