"""The trained fixtures with their tasks and runners, each loaded once."""

from __future__ import annotations

import functools
from pathlib import Path

from torch_runner import TorchRunner

from equipoise.validators.models.auto_classes import pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task

ROOT = Path(__file__).parents[3] / "fixtures"
FIXTURES = sorted(path.parent.name for path in (ROOT / "tasks").glob("*/samples.json"))
GOLDENS = sorted(path.stem for path in (ROOT / "pipelines").glob("*.json"))


@functools.cache
def folder(name: str) -> ModelFolder:
    return ModelFolder(ROOT / "tasks" / name)


@functools.cache
def runner(name: str) -> TorchRunner:
    model = folder(name)
    return TorchRunner(model.path, pytorch_class(model, infer_task(model)))
