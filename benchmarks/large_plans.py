"""Measures plans of models of a hundred gigabytes, and a real conversion of twenty between safetensors and Orbax.

    python benchmarks/large_plans.py [--conversion FOLDER]

Then layers in stacks of 1.2 GB are converted. The models are sparse files: headers of safetensors, and shards without room on disk. Each command runs in a process of its own; seconds and
peak memory go to ``benchmarks/results/large-plans.json``. With ``--conversion`` a Llama of 20 GB of random bfloat16 is written into FOLDER, which needs
42 GB, converted to Orbax and back; the hashes of all its tensors must come back too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine  # isort: skip - scripts in the same folder, not a package
from measure import Sample, run_command

RESULT = Path(__file__).parent / "results" / "large-plans.json"
WRITE_SPARSE = """
import json, sys
from pathlib import Path
from equipoise.fixtures.sparse_models import write_sparse_model
print(json.dumps({"bytes": write_sparse_model(Path(sys.argv[2]), sys.argv[1])}))
"""
WRITE_RANDOM = """
import json, sys
from pathlib import Path
from equipoise.fixtures.sparse_models import write_random_model
print(json.dumps({"bytes": write_random_model(Path(sys.argv[2]), sys.argv[1])}))
"""
WRITE_SCANNED = """
import json, sys
from pathlib import Path
from equipoise.fixtures.sparse_models import write_sparse_scanned_umt5
print(json.dumps({"bytes": write_sparse_scanned_umt5(Path(sys.argv[1]), 1024)}))
"""
PLANS: dict[str, tuple[tuple[str, ...], ...]] = {
    "llama-70b": (
        ("--to", "flax"),
        ("--to", "flax-orbax"),
        ("--to", "pytorch", "--dtype", "fp16", "--max-shard-size", "5GB"),
    ),
    "mixtral-8x7b": (("--to", "pytorch-bin", "--max-shard-size", "5GB"),),
    "switch-large-128": (("--to", "t5x"), ("--to", "t5x-orbax")),
}
"""Model -> options of the plans that are measured."""


def equipoise(*arguments: str | Path) -> Sample:
    """Runs a command of Equipoise and measures it."""
    return run_command([sys.executable, "-m", "equipoise", *arguments])


def row(what: str, sample: Sample) -> dict[str, Any]:
    """Returns one line of the result, in seconds and megabytes."""
    found = {
        "command": what,
        "seconds": round(sample.seconds, 2),
        "peak_mb": round(sample.peak / 1e6),
    }
    print(found, flush=True)
    return found


def measure_plans(scratch: Path) -> dict[str, Any]:
    """Returns for each model its bytes, and what inspecting and planning took."""
    found: dict[str, Any] = {}
    for name, options in PLANS.items():
        source = scratch / name
        written = run_command([sys.executable, "-c", WRITE_SPARSE, name, source])
        rows = [row("inspect", equipoise("inspect", source))]
        for chosen in options:
            plan = equipoise("convert", source, scratch / "out", *chosen, "--dry-run")
            rows.append(row(f"convert {' '.join(chosen)} --dry-run", plan))
        found[name] = {"gigabytes": round(written.output["bytes"] / 1e9, 1), "commands": rows}
    return found


def measure_stacks(scratch: Path) -> dict[str, Any]:
    """Returns what it takes to convert layers in stacks of 1.2 GB, from safetensors and from Orbax."""
    source, orbax = scratch / "scanned", scratch / "scanned-orbax"
    written = run_command([sys.executable, "-c", WRITE_SCANNED, source])
    rows = [
        row(
            "convert t5x-scanned (safetensors) --to pytorch",
            equipoise("convert", source, scratch / "a", "--to", "pytorch"),
        ),
        row(
            "convert t5x-scanned --to t5x-scanned-orbax",
            equipoise("convert", source, orbax, "--to", "t5x-scanned-orbax"),
        ),
        row(
            "convert t5x-scanned-orbax --to pytorch",
            equipoise("convert", orbax, scratch / "b", "--to", "pytorch"),
        ),
    ]
    for name in ("a", "b", "scanned-orbax"):
        shutil.rmtree(scratch / name)
    return {"gigabytes": round(written.output["bytes"] / 1e9, 1), "commands": rows}


def hashes(folder: Path) -> dict[str, str]:
    """Returns tensor -> hash of its bytes, as the manifest of a conversion has them."""
    manifest = json.loads((folder / "equipoise.json").read_text())
    return {name: one["blake3"] for name, one in manifest["tensors"].items()}


def measure_conversion(folder: Path) -> dict[str, Any]:
    """Converts a real model to Orbax and back; keeps two copies of it at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    source, orbax, back = (folder / name for name in ("source", "orbax", "back"))
    try:
        written = run_command([sys.executable, "-c", WRITE_RANDOM, "llama-20gb", source])
        there = equipoise("convert", source, orbax, "--to", "flax-orbax")
        expected = json.loads((orbax / "equipoise.json").read_text())["sources"]
        shutil.rmtree(source)
        again = equipoise("convert", orbax, back, "--to", "pytorch", "--max-shard-size", "5GB")
        found = hashes(back)
        different = sum(found.get(name) != digest for name, digest in expected.items())
    finally:
        for one in (source, orbax, back):
            shutil.rmtree(one, ignore_errors=True)
    return {
        "gigabytes": round(written.output["bytes"] / 1e9, 1),
        "tensors": len(expected),
        "tensors_that_differ": different,
        "commands": [
            row("convert safetensors (shards of 5 GB) --to flax-orbax", there),
            row("convert orbax --to pytorch --max-shard-size 5GB", again),
        ],
    }


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversion", type=Path, help="folder for the real conversion")
    chosen = parser.parse_args().conversion
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        plans = measure_plans(Path(scratch))
        stacks = measure_stacks(Path(scratch))
    conversion = measure_conversion(chosen) if chosen else old.get("conversion")
    result = {
        "machine": describe_machine(None),
        "plans": plans,
        "stacks": stacks,
        "conversion": conversion,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
