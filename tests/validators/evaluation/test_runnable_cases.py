"""Cases that a program cannot take are told, not failed; those that it must take are run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.validators.core.types import Batch, Case
from equipoise.validators.evaluation.context import ReferenceOutputs
from equipoise.validators.evaluation.runnable_cases import choose_runnable


def measured(name: str, shape: tuple[int, ...], **options: Any) -> ReferenceOutputs:
    batch = Batch(Case(name, (), options), {"input_ids": np.zeros(shape, np.int64)})
    return ReferenceOutputs(batch, {}, {}, (), ())


CASES = [
    measured("single", (1, 8)),
    measured("batch", (3, 15)),
    measured("greedy-cache", (1, 8), cache=True),
]


def artifact(folder: Path, shape: list[object]) -> Path:
    manifest = {
        "version": 1,
        "target": "tflite",
        "program": "model.tflite",
        "task": "fill-mask",
        "inputs": {"input_ids": {"dtype": "int64", "shape": shape}},
    }
    (folder / "artifact.json").write_text(json.dumps(manifest))
    program = folder / "saved_model" / "1"
    program.mkdir(parents=True)
    return program


@pytest.mark.parametrize(
    ("shape", "names", "notes"),
    [
        (["batch", "sequence"], ["single", "batch"], 1),
        ([3, 15], ["batch"], 2),
        (["batch", 8], ["single"], 2),
        ([2, 9], [], 2),
        ([3], [], 2),
    ],
)
def test_only_cases_of_the_programs_size_run(
    shape: list[object], names: list[str], notes: int, tmp_path: Path
) -> None:
    found, said = choose_runnable(CASES, artifact(tmp_path, shape), caches=False)
    assert [one.batch.case.name for one in found] == names
    assert len(said) == notes
    left = {one.batch.case.name for one in CASES} - set(names)
    assert all(name in " ".join(said) for name in left)


def test_a_program_without_a_manifest_takes_every_case(tmp_path: Path) -> None:
    found, said = choose_runnable(CASES, tmp_path / "model.onnx", caches=True)
    assert (found, said) == (CASES, ())
