"""Tasks encode samples without PyTorch: ``equipoise run`` on an artifact does not need it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("transformers")
pytest.importorskip("PIL")

from task_models import FIXTURES, ROOT

NEED_TORCH = {
    "image-segmentation-panoptic": "MaskFormer's image processor imports torch",
    "zero-shot-audio-classification": "ClapFeatureExtractor asks for torch",
}
"""Fixtures whose preprocessing in transformers 5 needs torch; ASTFeatureExtractor is another."""

CODE = """
import importlib.util, sys, warnings
from pathlib import Path
found = importlib.util.find_spec
missing = ("torch", "torchvision")
importlib.util.find_spec = lambda name, *rest: None if name in missing else found(name, *rest)
warnings.simplefilter("ignore")
from equipoise.validators.models.auto_classes import pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task
from equipoise.validators.tasks.base import load_samples
for path in map(Path, sys.argv[1:]):
    model = ModelFolder(path)
    task = infer_task(model)
    pytorch_class(model, task)
    for case in task.cases(model, load_samples(task, model)):
        task.encode(model, case)
print("torch" in sys.modules)
"""


@pytest.mark.transformers
def test_encodes_without_torch() -> None:
    folders = [str(ROOT / "tasks" / name) for name in FIXTURES if name not in NEED_TORCH]
    command = [sys.executable, "-c", CODE, *folders]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "False", process.stderr[-2000:]
