"""Measures time and memory of exporting a model of three gigabytes to ONNX, compared with ``torch.onnx.export`` itself.

    python benchmarks/export_large.py [--layers N] [--work FOLDER] [--judged]

Both sides begin with the same folder with one safetensors file and end with the same graph on disk, each in processes of
its own. Memory is the peak sum over all processes of a side of their resident pages, including those of mapped files.
With ``--judged`` the export is also measured with validation, which runs the model in float64.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import machine

HERE = Path(__file__).parent
RESULT = HERE / "results" / "export-large.json"
HIDDEN_SIZE = 2048
PAGE_BYTES = 4096

TORCH_SCRIPT = """
import sys
import numpy as np, torch, transformers
torch.set_grad_enabled(False)
torch.set_num_threads({threads})
cls = transformers.BertForSequenceClassification
model = cls.from_pretrained(sys.argv[1], attn_implementation="eager", dtype=torch.float32).eval()
rows = torch.randint(5, 90, (2, 9))
given = dict(input_ids=rows, attention_mask=torch.ones_like(rows), token_type_ids=torch.zeros_like(rows))
auto = torch.export.Dim.AUTO
shapes = {{name: {{0: auto, 1: auto}} for name in given}}
torch.onnx.export(model, (), sys.argv[2], kwargs=given, dynamo=True, dynamic_shapes=shapes, external_data=True)
"""


def main() -> None:
    """Measures both sides and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--judged", action="store_true", help="also measure with validation")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        root = Path(folder)
        sizes = [str(given.layers), str(HIDDEN_SIZE)]
        maker = str(HERE / "random_bert.py")
        subprocess.run([sys.executable, maker, str(root / "model"), *sizes], check=True)
        weights = (root / "model" / "model.safetensors").stat().st_size
        (root / "plain").mkdir()
        script = TORCH_SCRIPT.format(threads=given.threads)
        command = [sys.executable, "-m", "equipoise", "export", str(root / "model")]
        settings = ["--to", "onnx", "--ways", "dynamo", "--threads", str(given.threads)]
        rows = {
            "torch.onnx.export": [
                *(sys.executable, "-c", script),
                *(str(root / "model"), str(root / "plain" / "model.onnx")),
            ],
            "equipoise export --no-validate": [
                *(*command, str(root / "ours"), *settings, "--no-validate")
            ],
        }
        if given.judged:
            judged = [*command, str(root / "judged"), *settings, "--cases", "single,batch"]
            rows["equipoise export"] = judged
        found = {}
        for name, one in rows.items():
            found[name] = run_and_measure(one, weights)
            print(name, found[name], flush=True)
            for made in ("plain", "ours", "judged"):
                shutil.rmtree(root / made, ignore_errors=True)
            (root / "plain").mkdir(exist_ok=True)
    ours, plain = found["equipoise export --no-validate"], found["torch.onnx.export"]
    values = {
        "machine": machine.describe_machine(None),
        "weights": weights,
        "runs": found,
        "seconds, ours to theirs": round(ours["seconds"] / plain["seconds"], 2),
    }
    RESULT.write_text(json.dumps(values, indent=1) + "\n")


def run_and_measure(command: list[str], weights: int) -> dict[str, Any]:
    """Runs a command; returns its seconds and the peak memory of the command and its child processes together."""
    peak = 0
    done = threading.Event()
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, sum(resident_bytes(pid) for pid in process_tree(process.pid)))

        watching = threading.Thread(target=watch)
        watching.start()
        code = process.wait()
        done.set()
        watching.join()
        errors.seek(0)
        if code:
            raise SystemExit(f"{command[:6]} ended with {code}: {errors.read()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak": peak,
        "peak to weights": round(peak / weights, 2),
    }


def process_tree(pid: int) -> list[int]:
    """Returns the ids of a process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            continue
    return found


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    main()
