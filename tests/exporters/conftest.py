"""Fixtures that export one program in a shared worker process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.exporters.example_inputs import varying_axes
from equipoise.exporters.target import find_target
from equipoise.validators.runtime.process import WorkerPool

ROOT = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="session")
def make_program(worker_pool: WorkerPool) -> Callable[..., list[str]]:
    """Returns a function that exports a program with one strategy of a target into a folder and returns the notes."""

    def make(
        target: str, way: str, model: Path, name: str, folder: Path, **inputs: Any
    ) -> list[str]:
        np.savez(folder / "inputs.npz", **inputs)
        axes = {
            key: {str(axis): symbol for axis, symbol in one.items()}
            for key, one in varying_axes([inputs]).items()
        }
        found = worker_pool.get("pytorch").call(
            "equipoise.exporters.build",
            "build",
            target=target,
            way=way,
            folder=str(model),
            class_name=name,
            inputs=str(folder / "inputs.npz"),
            output=str(folder / find_target(target).program),
            axes=axes,
        )
        notes: list[str] = found["notes"]
        return notes

    return make


@pytest.fixture(scope="module")
def programs(
    make_program: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Returns a function that exports a JAX program of a model for given inputs and returns its folder."""

    def make(model: Path, name: str, **inputs: Any) -> Path:
        folder = tmp_path_factory.mktemp("program")
        make_program("stablehlo", "export", model, name, folder, **inputs)
        return folder

    return make
