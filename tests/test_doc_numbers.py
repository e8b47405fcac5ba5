"""Figures in README and docs match the results and the code.

Every figure that looks like a measurement or a count (percent, kB, GB, "times", numbers of tests, classes, model types, tasks ...)
must be matched by a row of ``FIGURES``, or by one of ``ELSEWHERE`` with the reason why it is not compared here.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from call_data import all_calls, task_of
from safetensors.numpy import load_file

from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.fixtures.keras_hub_models import MODELS as HUB_MODELS
from equipoise.fixtures.keras_hub_models import model_type_of
from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.tasks.base import task_names

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
GENERATED = ("docs/coverage.md", "docs/architectures.md", "docs/faults.md", "docs/tasks.md")
"""Pages that are generated from results and compared with them by other tests."""
PAGES = sorted(
    {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    | {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - set(GENERATED)
)
LOOKS_LIKE_A_FIGURE = re.compile(
    r"\d[\d.,]* (?:%|kB\b|MB\b|GB\b|GiB\b|times\b)"
    r"|\b\d[\d,]* (?:\w+ )?(?:tests|classes|model types|tasks|architectures|fixtures|heads|mistakes|files|tensors)\b"
)


@cache
def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def classes(layout: str) -> int:
    rows = json.loads((ROOT / "fixtures" / "architectures.json").read_text(encoding="utf-8"))
    return len({(row["type"], row["class"]) for row in rows if row["layout"] == layout})


@cache
def converted_types() -> str:
    """Returns the number of model types that have a class in TensorFlow or Flax."""
    specs = filter(None, map(load_spec, spec_names()))
    names = ({name for cls in spec.classes.values() for name in cls.names} for spec in specs)
    return str(sum(bool(found & {"tensorflow", "flax"}) for found in names))


def noticed(name: str) -> tuple[str, str]:
    """Returns how many planted mistakes were noticed, and how many there were."""
    rows = results(name).values()
    planted = sum(one["planted"] for one in rows)
    return str(planted - sum(len(one["missed"]) for one in rows)), str(planted)


def hub_types() -> tuple[str]:
    """Returns the number of model types that have KerasHub's names."""
    specs = filter(None, map(load_spec, spec_names()))
    return (str(sum(bool(spec.layouts["keras_hub"]) for spec in specs)),)


def hub_heads() -> tuple[str]:
    """Returns the number of classes with a head that are tasks of KerasHub."""
    specs = filter(None, map(load_spec, spec_names()))
    tables = (spec.layouts["keras_hub"].get("keras", {}) for spec in specs)
    return (str(sum(len(table.get("tasks", ())) for table in tables)),)


def hub_outputs() -> tuple[str, str]:
    """Returns of how many model types and heads the outputs are compared."""
    path = ROOT / "tests" / "convert" / "layouts" / "golden" / "keras_hub" / "outputs.safetensors"
    names = {name: "task" in HUB_MODELS[name] for name in load_file(path)}
    types = {model_type_of(name) for name, is_head in names.items() if not is_head}
    return str(len(types)), str(sum(names.values()))


def hub_mutations() -> tuple[str, str]:
    rows = results("mutations-keras-hub").values()
    planted = sum(one["planted"] for one in rows)
    return f"{planted - sum(len(one['missed']) for one in rows):,}", f"{planted:,}"


def largest(rows: Iterable[Mapping[str, float]]) -> tuple[str, str]:
    """Returns the most seconds and the most megabytes of some commands."""
    every = list(rows)
    seconds, megabytes = (max(row[key] for row in every) for key in ("seconds", "peak_mb"))
    return str(math.ceil(seconds)), str(megabytes)


def peak(what: str) -> tuple[str, str]:
    """Returns the gigabytes of a model, and the most megabytes that converting it took."""
    one = results("large-plans")[what]
    return str(one["gigabytes"]), largest(one["commands"])[1]


def coverage(name: str) -> tuple[str, str]:
    """Returns the number of model types that torch.export accepts, and the share of them with a judged program."""
    found = [
        one["verdict"] in ("identical", "within noise")
        for key, one in results(name)["pairs"].items()
        if key.endswith(" feature-extraction")
        and one["verdict"] != "does not run"
        and "refused" not in one
    ]
    return str(len(found)), f"{100 * sum(found) / len(found):.1f}"


def mutations() -> tuple[str, str, str, str]:
    rows = results("mutations").values()
    planted = sum(one["planted"] for one in rows)
    caught = planted - sum(len(one["missed"]) for one in rows)
    return str(planted), str(len(rows)), str(caught), f"{100 * caught / planted:.2f}"


def large(run: str) -> str:
    return str(results("export-large")["runs"][run]["peak to weights"])


def fixtures() -> str:
    return str(len(list((ROOT / "fixtures" / "tasks").glob("*/samples.json"))))


def speed(row: int) -> tuple[str, ...]:
    """Returns a row of the table in docs/jax.md."""
    one = results("jax-speed")["rows"][row]
    ratios = one["ratio_to_eager"]
    return (
        f"{ratios['compiled']:.2f}",
        f"{ratios['jax']:.2f}",
        f"{one['making']:.1f}",
        f"{one['first_call']['jax']:.1f}",
    )


def conversions(model: str) -> tuple[str, ...]:
    """Returns the smallest and largest time of a conversion relative to ``cp``, and the size of the model."""
    one = results("2026-11-21-cpu")["models"][model]
    ratios = [pair["seconds"] / pair["cp"] for pair in one["pairs"]]
    return f"{min(ratios):.1f}", f"{max(ratios):.1f}", f"{one['bytes'] / 1e9:.2f}"


def overhead() -> tuple[str, str]:
    ratios = [one["ratio"] for one in results("overhead")["rows"]]
    return f"{min(ratios):.2f}", f"{max(ratios):.2f}"


def agreement() -> tuple[str, str, str]:
    """Returns the numbers of calls, tasks and models that are compared with ``pipeline()``."""
    calls = all_calls()
    tasks = {task_of(call) for call in calls}
    return f"{len(calls):,}", str(len(tasks)), str(len({call["model"] for call in calls}))


def mutants(name: str) -> str:
    return f"{results('mutate-ops')['summary'][name]:,}"


NUMBER = r"(\d[\d.,]*\d|\d)"
FOUR_CELLS = r" \| ".join([NUMBER] * 4)
FIGURES: list[tuple[str, str, Callable[[], tuple[str, ...]]]] = [
    # page, sentence with a group for each figure, the figures
    ("README.md", rf"All {NUMBER} tasks of `pipeline\(\)`", lambda: (str(len(task_names())),)),
    (
        "README.md",
        rf"Of the {NUMBER} model types of transformers 5 that `torch.export` accepts, {NUMBER} % have such a program",
        lambda: coverage("jax-coverage"),
    ),
    (
        "README.md",
        rf"Of the {NUMBER} model types of transformers 5 that `torch.export` accepts, {NUMBER} % have such a program",
        lambda: coverage("saved-model-coverage"),
    ),
    ("README.md", rf"and {NUMBER} % have one\nin ONNX", lambda: coverage("export-coverage")[1:]),
    (
        "README.md",
        (
            rf"All\n{NUMBER} model types for which transformers 4.57.6 has TensorFlow or Flax classes, from albert to xlnet, "
            rf"with every head class \({NUMBER} of TensorFlow, {NUMBER} of\nFlax\)"
        ),
        lambda: (converted_types(), str(classes("tensorflow")), str(classes("flax"))),
    ),
    ("CHANGELOG.md", rf"all {NUMBER} model types", lambda: (converted_types(),)),
    ("CHANGELOG.md", rf"All {NUMBER} tasks", lambda: (str(len(task_names())),)),
    ("CHANGELOG.md", rf"{NUMBER} calls with every option", lambda: agreement()[:1]),
    ("docs/run.md", rf"{NUMBER} calls of {NUMBER} tasks on {NUMBER} models", lambda: agreement()),
    ("docs/derive.md", rf"Equipoise knows {NUMBER} model types", lambda: (str(len(spec_names())),)),
    ("README.md", rf"presets of {NUMBER} model types", hub_types),
    ("CHANGELOG.md", rf"\[{NUMBER} model types\]\(docs/keras-hub.md\)", hub_types),
    ("docs/what-it-reads.md", rf"\[{NUMBER} model types\]\(keras-hub.md\)", hub_types),
    ("docs/graph.md", rf"bit for bit for {NUMBER} model types", hub_types),
    ("docs/graph.md", rf"and {NUMBER} of their heads", hub_heads),
    ("docs/graph.md", rf"of scale for {NUMBER} types and {NUMBER} of the heads", hub_outputs),
    ("docs/keras-hub.md", rf"these {NUMBER} are known here", hub_types),
    ("docs/keras-hub.md", rf"{NUMBER} of {NUMBER} are noticed", hub_mutations),
    (
        "docs/architecture-files.md",
        rf"Of {NUMBER} mistakes in {NUMBER} files, drawn with a seed, {NUMBER} \({NUMBER} %\)",
        mutations,
    ),
    (
        "docs/architecture-files.md",
        rf"would notice: {NUMBER} of {NUMBER} are noticed",
        lambda: noticed("mutations-google"),
    ),
    (
        "docs/architecture-files.md",
        rf"`tests/convert/layouts/test_t5x.py`:\s+{NUMBER} of {NUMBER} are noticed",
        lambda: noticed("mutations-t5x"),
    ),
    (
        "docs/graph.md",
        rf"Llama of {NUMBER} GB, a Mixtral of {NUMBER} GB and a Switch of {NUMBER} GB",
        lambda: tuple(str(one["gigabytes"]) for one in results("large-plans")["plans"].values()),
    ),
    (
        "docs/graph.md",
        rf"planned in at most {NUMBER} s and {NUMBER} MB",
        lambda: largest(
            row for one in results("large-plans")["plans"].values() for row in one["commands"]
        ),
    ),
    (
        "docs/graph.md",
        rf"a Llama of {NUMBER} GB takes at most {NUMBER} MB",
        lambda: peak("conversion"),
    ),
    ("docs/graph.md", rf"UMT5 of {NUMBER} GB, .* at most {NUMBER} MB", lambda: peak("stacks")),
    (
        "docs/export.md",
        rf"All {NUMBER} trained fixtures \({NUMBER} tasks\)",
        lambda: (fixtures(), str(len(task_names()))),
    ),
    (
        "docs/export.md",
        (
            rf"A BERT of {NUMBER} GB was exported to ONNX and\nvalidated with a peak of {NUMBER} times its weights over all "
            rf"processes, and {NUMBER} times with `--no-validate`; `torch.onnx.export` alone took {NUMBER}"
        ),
        lambda: (
            f"{results('export-large')['weights'] / 1e9:.1f}",
            large("equipoise export"),
            large("equipoise export --no-validate"),
            large("torch.onnx.export"),
        ),
    ),
    (
        "docs/export.md",
        rf"the error is below {NUMBER} % of the output",
        lambda: (f"{100 * DEFAULTS['int8'].ceiling:g}",),
    ),
    ("docs/jax.md", rf"\| BERT-base, 128 tokens \| {FOUR_CELLS} \|", lambda: speed(0)),
    ("docs/jax.md", rf"\| GPT-2, 128 tokens \| {FOUR_CELLS} \|", lambda: speed(1)),
    ("docs/jax.md", rf"\| GPT-2, one token after 128 \| {FOUR_CELLS} \|", lambda: speed(2)),
    ("docs/jax.md", rf"\| ViT-base \| {FOUR_CELLS} \|", lambda: speed(3)),
    ("docs/jax.md", rf"\| Whisper-tiny, 30 s and 16 tokens \| {FOUR_CELLS} \|", lambda: speed(4)),
    (
        "docs/decisions/0006-speed.md",
        rf"{NUMBER} to {NUMBER} times `cp` for {NUMBER} GB",
        lambda: conversions("t5-large"),
    ),
    (
        "docs/decisions/0006-speed.md",
        rf"{NUMBER} to {NUMBER} times for {NUMBER} GB",
        lambda: conversions("bert-base"),
    ),
    ("docs/decisions/0008-backends-in-processes.md", rf"has {NUMBER} to {NUMBER}\ntimes", overhead),
    (
        "docs/decisions/0012-operators-in-jax.md",
        rf"all {NUMBER} were tried, {NUMBER}\nwere caught, and {NUMBER} change no result",
        lambda: (mutants("tried"), mutants("caught"), mutants("equivalent")),
    ),
]
ELSEWHERE: list[tuple[str, str, str]] = [
    # page, sentence, why it is not compared here
    ("README.md", r"size +[\d.]+ kB in 1 file", "tests/test_doc_examples.py runs the block"),
    ("README.md", r"\d+ tensors in \d+ steps", "tests/test_doc_examples.py runs the block"),
    (
        "README.md",
        r"\d+ files and \d+ tensors checked, \d+ tensors",
        "tests/test_doc_examples.py runs it",
    ),
    ("README.md", r"\d+/\d+ +[\d.]+ +\d+ MB", "one run, on one machine"),
    ("README.md", r"(?s)<!-- made by `make newest` -->.*<!-- end -->", "tests/test_newest.py"),
    ("README.md", r"Over [\d,]+ tests run", "test_number_of_tests"),
    ("docs/keras-hub.md", r"loads \d+ model types", "KerasHub's preset_loader.py"),
    ("README.md", r"10 GB of disk", "an upper bound"),
    ("CONTRIBUTING.md", r"10 GB of disk", "an upper bound"),
    (
        "CHANGELOG.md",
        r"300,000 tensors convert in less than 600 MB",
        "tests/convert/conversion/test_many_tensors.py",
    ),
    ("docs/validate.md", r"1 GiB", "LARGE_MODEL_BYTES, see test_limits_of_size"),
    ("docs/validate.md", r"2 GiB", "LONG_CASE_SCORE_BYTES, see test_limits_of_size"),
    ("docs/export.md", r"1 GiB", "LARGE_MODEL_BYTES and MAX_INLINE_BYTES, see test_limits_of_size"),
    ("docs/security.md", r"\| header of a safetensors file .*", "test_bounds_of_files"),
    ("docs/security.md", r"\| a compressed pickle .*", "test_bounds_of_files"),
    ("docs/security.md", r"\| a chunk of zarr .*", "test_bounds_of_files"),
    ("docs/security.md", r"expands at most 22 times", "test_bounds_of_files"),
    ("docs/security.md", r"Memory is 150 MB", "tests/convert/test_from_pretrained_processes.py"),
    ("docs/validate.md", r"\| `ceiling` .*", "tests/test_doc_examples.py compares the table"),
    ("docs/validate.md", r"\| `rms_factor` .*", "tests/test_doc_examples.py compares the table"),
]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", FIGURES, ids=lambda row: f"{row[0]} {row[1][:40]}")
def test_figure(row: tuple[str, str, Callable[[], tuple[str, ...]]]) -> None:
    page, pattern, figures = row
    found = re.search(pattern, text_of(page))
    assert found, "the sentence is not on the page"
    assert found.groups() == figures()


def compared_parts(page: str) -> Iterator[tuple[int, int]]:
    """Returns the parts of a page that are compared, here or elsewhere."""
    for other, pattern, _ in (*FIGURES, *ELSEWHERE):
        if other == page:
            yield from (found.span() for found in re.finditer(pattern, text_of(page)))


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_is_compared(page: str) -> None:
    spans = list(compared_parts(page))
    loose = [
        found.group()
        for found in LOOKS_LIKE_A_FIGURE.finditer(text_of(page))
        if not any(begin <= found.start() and found.end() <= end for begin, end in spans)
    ]
    assert loose == []


@pytest.mark.parametrize("row", ELSEWHERE, ids=lambda row: f"{row[0]} {row[1][:40]}")
def test_no_exception_is_stale(row: tuple[str, str, str]) -> None:
    assert re.search(row[1], text_of(row[0]))


def test_limits_of_size() -> None:
    from equipoise.exporters.onnx.external_data import MAX_INLINE_BYTES
    from equipoise.validators.evaluation.context import LARGE_MODEL_BYTES
    from equipoise.validators.tasks.shared.text import LONG_CASE_OPERATIONS, LONG_CASE_SCORE_BYTES

    assert LARGE_MODEL_BYTES == MAX_INLINE_BYTES == 1 << 30
    assert LONG_CASE_SCORE_BYTES == 2 << 30
    assert LONG_CASE_OPERATIONS == 400 * 10**9


def test_bounds_of_files() -> None:
    """The table of docs/security.md has the numbers of the readers."""
    from equipoise.convert.architectures.expand import MAX_PARAMETERS, MAX_REPEAT
    from equipoise.convert.checkpoints.companion_files import MAX_COMPANION_BYTES
    from equipoise.convert.containers import safetensors
    from equipoise.convert.containers._bundle import data_files, snappy, sorted_table
    from equipoise.convert.containers._hdf5 import datasets
    from equipoise.convert.containers._msgpack import scanner
    from equipoise.convert.containers._orbax import array_store
    from equipoise.convert.containers._pytorch import (
        pickle_machine,
        tensor_tree,
        unpickle,
        zip_storages,
    )
    from equipoise.convert.containers._shared.checks import MAX_AXES
    from equipoise.convert.conversion import manifest
    from equipoise.convert.core.json_values import MAX_JSON_BYTES

    def mib(nbytes: int) -> str:
        return f"{nbytes / (1 << 20):g} MiB"

    page = text_of("docs/security.md")
    for what, bound in {
        "JSON (configs, indexes, samples)": mib(MAX_JSON_BYTES),
        "a manifest, an index of Equipoise": mib(manifest._MAX_BYTES),
        "a companion that is copied": mib(MAX_COMPANION_BYTES),
        "header of a safetensors file": f"{safetensors.MAX_HEADER_BYTES / 1e6:g} MB",
        "the pickle of a PyTorch file": (
            f"{mib(pickle_machine.MAX_PICKLE_BYTES)}, {unpickle.MAX_OPCODES:,} operations, tensors nested "
            f"{tensor_tree.MAX_DEPTH} deep, names of {tensor_tree.MAX_NAME_CHARACTERS:,} characters"
        ),
        "names of all tensors of a PyTorch file together": mib(
            tensor_tree._MAX_NAME_CHARACTERS_IN_ALL
        ),
        "a compressed pickle": f"{zip_storages._MAX_PICKLE_RATIO} times its compressed size",
        "msgpack": (
            f"{scanner.MAX_VALUES:,} values, {scanner.MAX_DEPTH} levels, paths of keys of {scanner.MAX_KEY_BYTES:,} bytes, "
            f"together {mib(scanner.MAX_PATH_BYTES)}"
        ),
        "a chunk of zarr (Orbax, T5X)": (
            f"what its array says, decompressed; {array_store._MAX_EXPANSION} times the whole checkpoint"
        ),
        "HDF5": f"{datasets.MAX_DEPTH} levels",
        "a TensorFlow checkpoint's names": (
            f"{sorted_table.MAX_KEY_BYTES:,} bytes each, {mib(sorted_table._MAX_TOTAL_KEY_BYTES)} together, "
            f"{data_files._MAX_SLICES:,} slices a tensor; Snappy expands at most {snappy._MAX_RATIO} times"
        ),
        "axes of a tensor": f"{MAX_AXES}",
        "an architecture file": (
            f"{MAX_PARAMETERS:,} parameters, {MAX_REPEAT:,} repetitions of one size"
        ),
    }.items():
        assert f"| {what} | {bound} |" in page


def test_reason_of_the_factor() -> None:
    """The table of tolerances states how far correct backends were from the noise."""
    found = re.search(r"stayed below (\d+) times the noise", text_of("docs/validate.md"))
    assert found
    rows = [row for row in results("false-alarms")["rows"] if not row["alarms"]]
    assert 0.8 * int(found[1]) < max(row["ratio"] for row in rows if row["ratio"]) < int(found[1])


@pytest.mark.slow
def test_number_of_tests(request: pytest.FixtureRequest) -> None:
    """README states a lower bound that stays true while the suite grows."""
    found = re.search(r"Over ([\d,]+) tests run", text_of("README.md"))
    assert found
    stated_number = int(found.group(1).replace(",", ""))
    assert stated_number <= count_tests(request) < 1.5 * stated_number


def count_tests(request: pytest.FixtureRequest) -> int:
    """Returns the number of tests of the whole suite; those of this run if it is the whole suite."""
    options = request.config.option
    if not (options.markexpr or options.keyword or options.file_or_dir):
        return request.session.testscollected
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counts = re.search(r"(\d+)(?:/\d+)? tests collected", done.stdout)
    assert counts
    return int(counts.group(1))
