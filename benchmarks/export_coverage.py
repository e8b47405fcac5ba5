"""Which model types of transformers reach a judged program: every one as a tiny random model.

    python benchmarks/export_coverage.py CONFIGS [--seconds N] [TYPE ...]

CONFIGS is a JSON file with ``types``: by model type its class, the shapes of its inputs and a small config. Results
go to ``benchmarks/results/export-coverage.json``; what is there already is not done again, so the command can be
stopped and started. ``docs/export-coverage.md`` is written from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.errors import WorkerError
from equipoise.convert.output import write_atomic
from equipoise.exporters.base import find_target
from equipoise.validators.architectures import mapped_classes
from equipoise.validators.attempts import reason_of
from equipoise.validators.tolerance import DEFAULTS
from equipoise.validators.verdict import Verdict, judge_case
from equipoise.validators.workers import Workers

HERE = Path(__file__).parent
WORKER = HERE / "export_worker.py"
RESULTS = HERE / "results" / "export-coverage.json"
PAGE = HERE.parent / "docs" / "export-coverage.md"
TARGET = "onnx"
HEADS = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "image-classification": "AutoModelForImageClassification",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
}


def main() -> None:
    """Goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--heads", action="store_true", help="heads of tasks too")
    given = parser.parse_args()
    types = json.loads(given.configs.read_text())["types"]
    done: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    limit = time.monotonic() + given.seconds
    with Workers(time_limit=150) as workers:
        for key, entry in _pairs(types, given.types, heads=given.heads):
            if key in done:
                continue
            if time.monotonic() > limit:
                break
            done[key] = _one(key.partition(" ")[0], entry, workers)
            print(key, done[key]["verdict"], done[key].get("reason", "")[:150], flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            write_atomic(RESULTS, json.dumps(done, indent=1, sort_keys=True) + "\n")
    write_atomic(PAGE, page(done))


def _pairs(types: dict[str, Any], wanted: list[str], *, heads: bool) -> list[tuple[str, Any]]:
    """Model types with their base class, then with the head of each task."""
    chosen = {name: types[name] for name in wanted or sorted(types)}
    pairs = [(f"{name} feature-extraction", entry) for name, entry in chosen.items()]
    for task, auto_class in HEADS.items() if heads else ():
        for name, classes in mapped_classes(auto_class).items():
            if name in chosen:
                pairs.append((f"{name} {task}", {**chosen[name], "class": classes[0]}))
    return pairs


def _one(model_type: str, entry: dict[str, Any], workers: Workers) -> dict[str, Any]:
    """The verdict on one model, and what was tried."""
    given = {
        "model_type": model_type,
        "config": entry["config"],
        "class_name": entry["class"],
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            shapes = entry["inputs"]
            environment = workers.get("pytorch")
            built = environment.call(WORKER, "build", **given, shapes=shapes, folder=folder)
        except WorkerError as error:
            return {"class": entry["class"], "verdict": "does not run", "reason": reason_of(error)}
        tried: list[dict[str, str]] = []
        for way in find_target(TARGET)[0].ways:
            found = _way(way, given, folder, workers)
            tried.append(found)
            if found["verdict"] in (Verdict.IDENTICAL.value, Verdict.WITHIN_NOISE.value):
                break
        best = min(tried, key=lambda one: _RANK.index(one["verdict"]))
        return {"class": entry["class"], **built, **best, "tried": tried}


_RANK = [verdict.value for verdict in Verdict] + ["not exported"]


def _way(way: str, given: dict[str, Any], folder: str, workers: Workers) -> dict[str, Any]:
    """Exported in one way and judged."""
    try:
        environment = workers.get("pytorch")
        made = environment.call(WORKER, "export", **given, target=TARGET, way=way, folder=folder)
    except WorkerError as error:
        return {"way": way, "verdict": "not exported", "reason": reason_of(error)}
    try:
        workers.get("onnx").call(WORKER, "run_onnx", folder=folder)
    except WorkerError as error:
        return {"way": way, "verdict": "failed", "reason": reason_of(error)}
    verdict, reason = _judged(Path(folder))
    seconds = round(made["seconds"], 1)
    return {"way": way, "verdict": verdict.value, "reason": reason, "seconds": seconds}


def _judged(folder: Path) -> tuple[Verdict, str]:
    """The worst over both batches, fused and plain."""
    worst, reason = Verdict.IDENTICAL, ""
    for batch in ("first", "second"):
        reference, truth = (
            _load(folder / f"{batch}-{kind}.npz") for kind in ("reference", "truth")
        )
        for kind in ("optimized", "plain"):
            case = judge_case(
                f"{batch} {kind}",
                _load(folder / f"{batch}-{kind}.npz"),
                reference,
                truth,
                valid={},
                precision="float32",
                tolerance=DEFAULTS["float32"],
                decisions=(),
                own=(),
            )
            if case.verdict.rank > worst.rank:
                worst = case.verdict
                first = max(case.outputs, key=lambda output: output.verdict.rank)
                reason = "" if first.reason == "" else f"{case.case}: {first.name}: {first.reason}"
    return worst, reason


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def page(done: dict[str, Any]) -> str:
    """The results as a page."""
    ran = {key: one for key, one in done.items() if one["verdict"] != "does not run"}
    good = {key for key, one in ran.items() if one["verdict"] in _RANK[:2]}
    free = {key for key in good if done[key]["varies"] == "batch and sequence"}
    counts = Counter(one["verdict"] for one in done.values())
    share = f"{100 * len(good) / len(ran):.1f} %" if ran else "none"
    lines = [
        "# Export coverage",
        "",
        "Written by `benchmarks/export_coverage.py` from `benchmarks/results/export-coverage.json`: tiny random models",
        "of transformers 5, exported to ONNX in the ways that `equipoise export` has, run on ONNX Runtime with its",
        "rewriting and without, on the traced batch and on another one, and judged against PyTorch in float64.",
        "",
        "The run is not complete: well-known families came first, then the rest by their names, so the share below is",
        "no estimate of the whole.",
        "",
        f"Tried {len(done)} pairs of model type and task; {len(ran)} run in PyTorch with these inputs. Of those",
        f"{len(good)} ({share}) reach a program that is identical or within noise, {len(free)} of them with a batch",
        "and a sequence other than the traced ones (the rest have no sequence, or the model itself takes no other",
        "here, and were run at another batch where it takes one).",
        "",
        *(f"- {verdict}: {count}" for verdict, count in counts.most_common()),
        "",
        "| model type and task | class | way | shapes that vary | verdict | why not |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, one in sorted(done.items()):
        why = "" if key in good else one.get("reason", "").replace("|", "\\|")[:160]
        cells = (key, one["class"], one.get("way", ""), one.get("varies", ""), one["verdict"], why)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
