"""Modern architectures, most without a TensorFlow or Flax class, are exported and judged by model name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from equipoise.exporters import load_jax
from equipoise.fixtures.modern.folder import all_recipes, architecture_names, make_folder
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.pipeline_io import to_json
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel
from equipoise.validators.tasks.base import find_task, load_samples

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

FINE = ("identical", "within noise")
TEXT, IMAGE, SHAPES = (
    {"batch_size", "sequence_length"},
    {"batch_size"},
    {"batch_size", "height", "width"},
)
PAST = {*TEXT, "past_sequence_length"}
DYNAMIC_SIZES = {
    "modernbert fill-mask": TEXT,
    "deberta-v2 question-answering": TEXT,
    "qwen3 text-generation": PAST,
    "llama text-generation": PAST,
    "gemma3_text text-generation": PAST,
    "phi text-generation": PAST,
    "mixtral text-generation": PAST,
    "dinov2 image-classification": IMAGE,
    "siglip zero-shot-image-classification": {"batch_size", "pixel_values_batch_size"},
    "sam mask-generation": IMAGE,
    "detr object-detection": SHAPES,
    "segformer image-segmentation": IMAGE,
    "depth_anything depth-estimation": SHAPES,
    "whisper automatic-speech-recognition": {
        *("batch_size", "decoder_sequence_length", "past_decoder_sequence_length"),
    },
    "wav2vec2-bert automatic-speech-recognition": {"batch_size", "input_features_1"},
    "clap zero-shot-audio-classification": {"batch_size", "input_features_batch_size"},
    "layoutlmv3 document-question-answering": TEXT,
    "vilt visual-question-answering": {*TEXT, *SHAPES},
    "blip image-to-text": TEXT,
}
"""One head of each architecture, and the symbolic sizes that its program must have."""
IN_TENSORFLOW = (
    "deberta-v2 question-answering",
    "qwen3 text-generation",
    "dinov2 image-classification",
    "detr object-detection",
    "wav2vec2-bert automatic-speech-recognition",
    "layoutlmv3 document-question-answering",
)
CASES = {
    "text-generation": "greedy-cache,batch-cache,long",
    "automatic-speech-recognition": "greedy-cache,batch-cache",
    "image-to-text": "greedy,batch",
    "mask-generation": "batch,passes",
}
"""Only these cases for models that are called often: others compile the program for many more sizes."""


CALLED_MODELS = (
    "modernbert fill-mask",
    "dinov2 image-classification",
    "vilt visual-question-answering",
)
"""Models whose program is also called in this process."""


def test_every_model_is_covered() -> None:
    assert DYNAMIC_SIZES.keys() <= all_recipes().keys()
    assert sorted(key.partition(" ")[0] for key in DYNAMIC_SIZES) == sorted(architecture_names())
    assert len(DYNAMIC_SIZES) == 19


@pytest.mark.parametrize("key", DYNAMIC_SIZES)
def test_jax(key: str, cli: Callable[..., Any], workers: WorkerPool, tmp_path: Path) -> None:
    found = export_and_judge(key, "stablehlo", cli, tmp_path)
    sides = [found, *found["graphs"].values()]
    sizes = {size for one in sides for shape in one["inputs"].values() for size in shape["shape"]}
    assert DYNAMIC_SIZES[key] <= sizes
    if key in CALLED_MODELS:
        assert_called(key, workers, tmp_path)
    assert_same_answer(key, workers, tmp_path)


@pytest.mark.parametrize("key", IN_TENSORFLOW)
def test_saved_model(
    key: str, cli: Callable[..., Any], workers: WorkerPool, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    export_and_judge(key, "saved-model", cli, tmp_path)
    assert_same_answer(key, workers, tmp_path)


def export_and_judge(
    key: str, target: str, cli: Callable[..., Any], tmp_path: Path
) -> dict[str, Any]:
    """Exports a new folder, judges all cases, and returns ``artifact.json``."""
    recipe = all_recipes()[key]
    make_folder(recipe, tmp_path / "model")
    often = bool(recipe.writes) or recipe.name == "sam"
    cases = ("--cases", CASES[recipe.task]) if often else ()
    outcome = cli(
        *("export", tmp_path / "model", tmp_path / "out", "--to", target, "--task", recipe.task),
        *("--threads", 1, "--json", *cases),
    )
    assert outcome.code == 0, outcome.out + outcome.err
    found: dict[str, Any] = outcome.data
    assert (found["task"], found["class_name"]) == (recipe.task, recipe.class_name)
    (row,) = found["verdict"]["backends"]
    assert len(row["cases"]) >= 2
    for name, case in row["cases"].items():
        assert case["verdict"] in FINE, (name, case)
        assert case["decisions"][0] == case["decisions"][1]
        assert all(one["max_abs"] < 1e-2 for one in case["outputs"].values())
    return found


def assert_called(key: str, workers: WorkerPool, tmp_path: Path) -> None:
    """Asserts that the function of ``load_jax`` gives PyTorch's values for the task's arrays."""
    recipe, model = all_recipes()[key], ModelFolder(tmp_path / "model")
    task = find_task(recipe.task)
    batch = task.encode(model, task.cases(model, load_samples(task, model))[1])
    program = load_jax(tmp_path / "out")
    given = {name: batch.arrays[name] for name in program.inputs}
    truth = RemoteModel(workers.get("pytorch"), "pytorch", recipe.class_name, model.path, threads=1)
    expected = truth.run(given)["logits"]
    truth.drop()
    np.testing.assert_allclose(program(**given)["logits"], expected, rtol=0, atol=1e-5)


def assert_same_answer(key: str, workers: WorkerPool, tmp_path: Path) -> None:
    """Asserts that ``equipoise run`` gives the same answer with the program and with PyTorch."""
    task = find_task(all_recipes()[key].task)
    samples = load_samples(task, ModelFolder(tmp_path / "model"))
    # The shortest sound fits into the window of a tiny Whisper, which has no tokens of time for a longer one.
    samples = samples[:1] if task.name == "automatic-speech-recognition" else samples[-1:]
    # BLIP has 40 positions, and its pipeline generates more unless it is told otherwise.
    options = {"mask-generation": {"points_per_crop": 6}, "image-to-text": {"max_new_tokens": 9}}
    one, other = (
        to_json(
            run_pipeline(
                task.name,
                tmp_path / name,
                samples,
                options=options.get(task.name, {}),
                workers=workers,
            )[0]
        )
        for name in ("model", "out")
    )
    assert one
    assert_equal_up_to_rounding(one, other)


def assert_equal_up_to_rounding(one: Any, other: Any) -> None:
    """Asserts equality up to rounding of numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_equal_up_to_rounding(value, other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for value, its in zip(one, other, strict=True):
            assert_equal_up_to_rounding(value, its)
    else:
        assert other == (pytest.approx(one, rel=1e-3, abs=1e-5) if isinstance(one, float) else one)
