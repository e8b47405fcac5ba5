"""Measures speed and memory of conversions, as ratios within one run.

    python benchmarks/run.py [--quick] [--only MODEL] [--oracle PYTHON] [--work FOLDER]

Results go to ``benchmarks/results/<date>-cpu.json`` and ``.md``; with ``--only`` the results of the other models of the
same day are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine  # isort: skip - scripts in the same folder, not a package
from measure import (  # isort: skip
    Sample,
    measure_copy,
    median_sample,
    remove_and_wait,
    run_command,
    warm_page_cache,
)
from models import MODELS  # isort: skip
from report import render_page  # isort: skip

HERE = Path(__file__).parent
FORMATS = ("pytorch-safetensors", "pytorch-bin", "tensorflow-h5", "flax-msgpack")
COMPARED_CONVERSIONS = (
    ("pytorch-safetensors", "tensorflow-h5"),
    ("tensorflow-h5", "pytorch-safetensors"),
    ("pytorch-safetensors", "flax-msgpack"),
    ("flax-msgpack", "pytorch-safetensors"),
)


def own_call(*arguments: str | Path) -> list[str | Path]:
    """Returns the command for one call of Equipoise."""
    return [sys.executable, HERE / "ours.py", *arguments]


def measure_model(name: str, work: Path, oracle: Path | None) -> dict[str, Any]:
    """Returns the measurements of one model for all pairs of formats."""
    folders = {form: work / form for form in FORMATS}
    made = run_command([sys.executable, HERE / "models.py", name, folders[FORMATS[0]]])
    for form in FORMATS[1:]:
        run_command(own_call("convert", folders[FORMATS[0]], folders[form], form))
    model = MODELS[name]
    pairs = []
    for form in FORMATS:
        pairs += measure_source(folders[form], work / "out", model.rounds)
    theirs = []
    if model.theirs and oracle is not None:
        for source, target in COMPARED_CONVERSIONS:
            script: list[str | Path] = [oracle, HERE / "theirs.py", model.class_name]
            remove_and_wait(work / "out")
            sample = run_command([*script, folders[source], work / "out", target])
            row = {"source": source, "target": target, "call": sample.call, "peak": sample.peak}
            theirs.append({**row, "seconds": sample.seconds, **sample.output})
            print(f"  4.57.6: {source} -> {target}: {sample.call:.2f} s", flush=True)
    inspect_samples = {form: run_command(own_call("inspect", folders[form])) for form in FORMATS}
    return {
        "title": model.title,
        **made.output,
        "rounds": model.rounds,
        "pairs": pairs,
        "theirs": theirs,
        "inspect": {form: sample.call for form, sample in inspect_samples.items()},
        "inspect_command": run_command(equipoise_command("inspect", folders[FORMATS[0]])).seconds,
    }


def measure_source(source: Path, out: Path, rounds: int) -> list[dict[str, Any]]:
    """Returns the measurements of converting one folder to each format, and of copying it, in turns."""
    targets = [form for form in FORMATS if form != source.name]
    samples: dict[str, list[Sample]] = {name: [] for name in ("cp", "cp_durable", *targets)}
    for _ in range(rounds):
        for name, measured in samples.items():
            remove_and_wait(out)
            warm_page_cache(source)
            if name.startswith("cp"):
                measured.append(measure_copy(source, out, durable=name == "cp_durable"))
            else:
                measured.append(run_command(own_call("convert", source, out, name)))
    remove_and_wait(out)
    cp, durable = median_sample(samples["cp"]).seconds, median_sample(samples["cp_durable"]).seconds
    rows = []
    for target in targets:
        median = median_sample(samples[target])
        row = {"source": source.name, "target": target, "cp": cp, "cp_durable": durable}
        row |= {"seconds": median.seconds, "call": median.call, "peak": median.peak}
        rows.append(row | {"all": [sample.seconds for sample in samples[target]]})
        print(f"  {source.name} -> {target}: {median.seconds:.2f} s, cp {cp:.2f} s", flush=True)
    return rows


def equipoise_command(*arguments: str | Path) -> list[str | Path]:
    """Returns the command that runs ``equipoise`` as the installed script does."""
    script = "import sys; from equipoise.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", script, *arguments]


def main() -> None:
    """Measures the models and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small model only; results are printed, not written"
    )
    parser.add_argument(
        "--only", choices=sorted(MODELS), help="one model; other results of the same day are kept"
    )
    parser.add_argument("--oracle", type=Path, default=HERE.parent / ".venv-oracle/bin/python")
    parser.add_argument("--work", type=Path, help="a folder on the disk that is measured")
    given = parser.parse_args()
    oracle = given.oracle if given.oracle.exists() else None
    names = ["tiny"] if given.quick else [given.only] if given.only else ["bert-base", "t5-large"]
    results: dict[str, Any] = {"machine": describe_machine(oracle), "models": {}}
    stem = HERE / "results" / f"{results['machine']['date']}-cpu"
    if given.only and stem.with_suffix(".json").exists():
        results["models"] = json.loads(stem.with_suffix(".json").read_text())["models"]
    help_sample = median_sample([run_command(equipoise_command("--help")) for _ in range(5)])
    results["help"] = help_sample.seconds
    for name in names:
        print(MODELS[name].title, flush=True)
        with tempfile.TemporaryDirectory(dir=given.work, prefix="equipoise-bench-") as work:
            results["models"][name] = measure_model(name, Path(work), oracle)
    if given.quick:
        print(render_page(results))
        return
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    stem.with_suffix(".md").write_text(render_page(results))
    print(f"wrote {stem}.json and .md")


if __name__ == "__main__":
    main()
