"""Measures what the audit of the weights adds to a validation, for a model of BERT-base's size with random weights.

    python benchmarks/audit.py [--layers 12] [--targets onnx,torchscript]

The share is the seconds of the audit over the wall time of the whole validation of one program; a fault is planted for the second
figure, since what is wrong takes longer to name. Figures go to ``benchmarks/results/audit.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from random_bert import write_random_bert

from equipoise.convert import open_checkpoint
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.tensor import TensorRef
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation import host
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.models.sources import resolve_artifact
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.validate import validate

HERE = Path(__file__).parent
EMBEDDING = "bert.embeddings.word_embeddings.weight"
VARIANTS: dict[str, dict[str, object]] = {
    "onnx": {},
    "onnx-optimized": {"optimize": True},
    "onnx-int8": {"quantize": "int8-dynamic"},
    "torchscript": {},
    "torch-export": {},
    "stablehlo": {},
}
"""Target, with a suffix for options -> the options."""


def main() -> None:
    """Builds the model, exports and validates it, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--targets", default="onnx,onnx-optimized,onnx-int8,torchscript")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work, WorkerPool() as pool:
        model = write_random_bert(Path(work) / "model", num_hidden_layers=given.layers)
        for name in given.targets.split(","):
            rows.append(measure(model, Path(work) / name, name, pool))
            print(rows[-1], flush=True)
    values = {"machine": host.describe_host(), "layers": given.layers, "rows": rows}
    (HERE / "results" / "audit.json").write_text(json.dumps(values, indent=1) + "\n")


def measure(model: Path, output: Path, name: str, pool: WorkerPool) -> dict[str, object]:
    """Exports one program and returns the seconds of its validation and of its audit."""
    target = name.removesuffix("-optimized").removesuffix("-int8")
    request = Request(model, backends=[], divergence=False, threads=2)
    export_model(ExportRequest(request, output, target, judged=False, options=VARIANTS[name]), pool)
    start = time.perf_counter()
    report = validate(replace(request, artifacts=[output]), pool)
    wall = time.perf_counter() - start
    (result,) = report.backends
    if result.audit is None:
        raise SystemExit(f"{name}: no audit: {result.failure}")
    return {
        "program": name,
        "validation": round(wall, 2),
        "audit": result.audit.seconds,
        "share": round(result.audit.seconds / wall, 4),
        "with a fault": audit_with_fault(model, output),
        "weights": result.audit.summary,
    }


def audit_with_fault(model: Path, output: Path) -> float:
    """Returns the seconds of an audit in which the rows of an embedding are other ones than the source's."""
    tensors = dict(open_checkpoint(model))
    tensors[EMBEDDING] = with_swapped_rows(tensors[EMBEDDING])
    program = resolve_artifact(output)
    return Auditor(tensors).audit(program.backend, program.path).seconds


def with_swapped_rows(ref: TensorRef) -> TensorRef:
    """Returns a tensor of which two rows are swapped when it is read."""

    def load() -> Array:
        array = ref.read()
        array[[40, 50]] = array[[50, 40]]
        return np.ascontiguousarray(array)

    return replace(ref, extent=None, load=load)


if __name__ == "__main__":
    main()
