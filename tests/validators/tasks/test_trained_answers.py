"""Tasks decode the answers that the fixtures were trained to give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from task_models import FIXTURES, folder, runner

from equipoise.validators.core.types import Case, Sample
from equipoise.validators.tasks.base import infer_task, load_samples

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

OTHERWISE = {"translation-t5": "transformers 5 splits its text otherwise, see test_pipelines.py"}

OPTIONS: dict[str, dict[str, Any]] = {
    "token-classification": {"aggregation_strategy": "simple"},
    # The defaults of the image processor, which are lower than those of the pipeline.
    "image-segmentation": {"threshold": 0.5, "overlap_mask_area_threshold": 0.8},
    # The fixture's masks have soft rims: the answers were taken whatever their stability.
    "mask-generation": {"stability_score_thresh": 0.0},
}

CASES: dict[str, dict[str, Any]] = {"mask-generation": {"points_per_side": 8}}


@pytest.mark.parametrize("name", FIXTURES)
def test_trained_answer(name: str) -> None:
    if name in OTHERWISE:
        pytest.skip(OTHERWISE[name])
    model = folder(name)
    task = infer_task(model)
    case = {"cache": True, **CASES.get(task.name, {})}
    stored = json.loads((model.path / "samples.json").read_text())
    for sample, entry in zip(load_samples(task, model), stored, strict=True):
        batch = task.encode(model, Case("pipeline", (sample,), case))
        outputs = task.run(runner(name), model, batch)
        (result,) = task.decode(model, batch, outputs, **OPTIONS.get(task.name, {}))
        _same(_to_sample_notation(task.name, result, sample, entry["expected"]), entry["expected"])


def _same(found: Any, expected: Any) -> None:
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.051)
    elif isinstance(expected, str):
        assert _without_image_tokens(found) == _without_image_tokens(expected)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            _same(ours, theirs)
    elif isinstance(expected, Mapping):
        assert set(found) == set(expected)
        for key in expected:
            _same(found[key], expected[key])
    else:
        assert found == expected


def _without_image_tokens(text: str) -> list[str]:
    """Removes image placeholders, which decoding may keep or drop."""
    return text.replace("<image>", " ").split()


def _to_sample_notation(task: str, result: Any, sample: Sample, expected: Any) -> Any:
    """Returns a result in the notation of samples.json."""
    if expected is None:
        return None
    if task == "token-classification":
        text = str(sample["text"])
        # A token of a space alone is none of an entity.
        entities = [entity for entity in result if entity["end"] > entity["start"]]
        return [[e["entity_group"], text[e["start"] : e["end"]].strip()] for e in entities]
    if task == "object-detection":
        found = [{"label": one["label"], "box": list(one["box"].values())} for one in result]
        return _close_boxes(sorted(found, key=lambda one: one["box"]), expected)
    if task == "image-segmentation":
        return _parts(result, expected)
    if task == "depth-estimation":
        return _quarters(result["predicted_depth"])
    if task == "mask-generation":
        return sorted((float(mask.mean().round(2)) for mask in result["masks"]), reverse=True)
    if task == "text-to-audio":
        return {
            **expected,
            "seconds": round(result["audio"].shape[-1] / result["sampling_rate"], 2),
        }
    return _strings(result)


def _strings(result: Any) -> str:
    """Returns the strings of the best entry of a list."""
    while isinstance(result, list):
        result = result[0]
    if "labels" in result:
        return str(result["labels"][0])
    names = (
        "label",
        "answer",
        "token_str",
        "generated_text",
        "summary_text",
        "translation_text",
        "text",
    )
    return next(str(result[name]).strip() for name in names if name in result)


def _close_boxes(found: Any, expected: Any) -> Any:
    """Compares boxes that are truncated to pixels with expected boxes that are rounded."""
    for ours, theirs in zip(found, expected, strict=True):
        if np.abs(np.subtract(ours["box"], theirs["box"])).max() <= 1:
            ours["box"] = theirs["box"]
    return found


def _parts(result: Any, expected: Any) -> Any:
    parts = [[one["label"], float((np.asarray(one["mask"]) > 0).mean())] for one in result]
    if isinstance(expected, dict):
        return {**dict.fromkeys(expected, 0.0), **dict(parts)}
    return sorted(parts, key=lambda pair: -pair[1])


def _quarters(depth: Any) -> dict[str, float]:
    height, width = depth.shape[0] // 2, depth.shape[1] // 2
    quarters = {
        "top left": depth[:height, :width],
        "top right": depth[:height, width:],
        "bottom left": depth[height:, :width],
        "bottom right": depth[height:, width:],
    }
    return {name: float(part.mean()) for name, part in quarters.items()}
