"""Faults in the files beside a program: each changes an answer, and each is found, whatever the program computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.validators.core.request import Request
from equipoise.validators.evaluation.companions import compare_companions
from equipoise.validators.evaluation.context import ReferenceOutputs, prepare_context
from equipoise.validators.judgement.results import BackendResult, CaseMetrics, Verdict
from equipoise.validators.models.sources import ModelSource
from equipoise.validators.runtime.process import WorkerPool

pytestmark = pytest.mark.transformers
TASKS = Path(__file__).parents[3] / "fixtures" / "tasks"


def edit(name: str, **fields: Any) -> Callable[[Path], None]:
    """Returns a function that changes fields of a JSON file in a folder."""

    def change(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, **fields}))

    return change


def swap_lines(name: str, first: int, second: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").unlink(missing_ok=True)
        lines = (folder / name).read_text().split("\n")
        lines[first], lines[second] = lines[second], lines[first]
        (folder / name).write_text("\n".join(lines))

    return change


def remove(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


FAULTS = [
    (
        "document-question-answering",
        edit("tokenizer_config.json", do_lower_case=False),
        "tokenizer: 'An UPPER and MiXeD Case",
    ),
    (
        "text-classification",
        edit("tokenizer_config.json", model_max_length=11),
        "tokenizer differs: 'model_max_length': 11 for 40",
    ),
    (
        "text-classification",
        edit("config.json", id2label={"0": "POSITIVE", "1": "NEGATIVE"}),
        "id2",
    ),
    ("text-classification", edit("config.json", problem_type="multi_label_classification"), "prob"),
    ("text-classification", swap_lines("vocab.txt", 40, 41), "vocabulary differs"),
    ("text-classification", swap_lines("vocab.txt", -3, -4), "vocabulary differs"),
    (
        "image-classification",
        edit("preprocessor_config.json", image_mean=[0.1, 0.2, 0.3]),
        "encode",
    ),
    ("image-classification", edit("preprocessor_config.json", resample=0), "encode"),
    ("image-classification", edit("preprocessor_config.json", do_rescale=False), "encode"),
    ("summarization", edit("generation_config.json", num_beams=7), "generation_config differs"),
    ("audio-classification", edit("preprocessor_config.json", do_normalize=False), "encode"),
]


def findings(
    name: str,
    change: Callable[[Path], None] | None,
    tmp_path: Path,
    decode: Callable[..., list[Any]] = lambda *_, **__: [],
) -> tuple[str, ...]:
    """Returns what is found in a copy of a fixture's companion files after a change."""
    folder = tmp_path / "artifact"
    shutil.copytree(TASKS / name, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    if change is not None:
        change(folder)
    (folder / "model.onnx").write_bytes(b"")
    with WorkerPool() as pool:
        context = prepare_context(Request(model=TASKS / name), pool, tmp_path)
        batch = next(one for one in context.batches if one.case.name != "long")
        empty = ReferenceOutputs(batch, {}, {}, (), ())
        context.task.decode = decode  # type: ignore[method-assign, attr-defined]
        try:
            return compare_companions(context, ModelSource("onnx", folder / "model.onnx"), [empty])
        finally:
            del context.task.decode


@pytest.mark.parametrize(
    ("name", "change", "text"),
    FAULTS,
    ids=[f"{name}-{index}" for index, (name, *_) in enumerate(FAULTS)],
)
def test_a_fault_is_found(
    name: str, change: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    found = findings(name, change, tmp_path)
    assert any(text in one for one in found), found


@pytest.mark.parametrize("name", ["text-classification", "image-classification", "summarization"])
def test_equal_files_say_nothing(name: str, tmp_path: Path) -> None:
    assert findings(name, None, tmp_path) == ()
    again = tmp_path / "again"
    again.mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    assert findings(name, remove("[!c]*"), bare) == ()  # a program with its config alone
    # The same values in other bytes, as another release writes them.
    assert findings(name, edit("config.json", transformers_version="9.9"), again) == ()


def test_outputs_are_decoded_with_both_files(tmp_path: Path) -> None:
    """The names of labels are compared too, but an answer says more."""
    found = findings(
        "text-classification",
        edit("config.json", id2label={"0": "POSITIVE", "1": "NEGATIVE"}),
        tmp_path,
        decode=lambda model, *_: [model.labels[0]],
    )
    assert any(
        "its files decode the same outputs to another answer: POSITIVE for NEGATIVE" in one
        for one in found
    ), found


def test_a_finding_is_a_divergence() -> None:
    case = CaseMetrics("single", failure="")
    assert BackendResult("onnx", "onnx", cases=(case,), companions=("x",)).verdict.rank >= (
        Verdict.DIVERGED.rank
    )
