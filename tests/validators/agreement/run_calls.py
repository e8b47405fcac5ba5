"""Runs calls through :class:`TaskPipeline` in this process; models are loaded once for the calls that follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from json_values import to_json_value

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.models.media import read_wav
from equipoise.validators.models.samples import resolve_media_paths
from equipoise.validators.pipeline import TaskPipeline
from equipoise.validators.runtime.process import WorkerPool

FIXTURES = Path(__file__).parents[3] / "fixtures" / "tasks"


def run_calls(calls: Sequence[dict[str, Any]], made: Path) -> Iterator[dict[str, Any]]:
    """Yields ``{"results"}`` or ``{"raises"}`` of each call.

    Args:
        calls: Tasks, models, options and samples.
        made: The folder with the models of ``fixtures/calls``.
    """
    with WorkerPool(time_limit=120) as workers:
        key, pipeline = None, None
        for call in calls:
            if key != (call["task"], call["model"]):
                key = (call["task"], call["model"])
                pipeline = _open(call, made, workers)
            yield _run(pipeline, call)


def _open(call: dict[str, Any], made: Path, workers: WorkerPool) -> TaskPipeline | EquipoiseError:
    kind, _, name = call["model"].partition("/")
    folder = made / name if kind == "made" else FIXTURES / name
    try:
        return TaskPipeline(call["task"], folder, workers=workers, threads=1)
    except EquipoiseError as error:
        return error


def _run(pipeline: TaskPipeline | EquipoiseError | None, call: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(pipeline, TaskPipeline):
        return {"raises": f"{type(pipeline).__name__}: {pipeline}"}
    samples = [_read_sample(sample) for sample in call["samples"]]
    try:
        answers = pipeline(samples, **call["options"])
        return {"results": [to_json_value(answer) for answer in answers]}
    except EquipoiseError as error:
        return {"raises": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001 - a defect: the table shows it as a difference
        return {"crashes": f"{type(error).__name__}: {error}"}


def _read_sample(sample: dict[str, Any]) -> Any:
    """Returns a sample with the paths of its media; audio ``LOOP n file`` is the file n times."""
    audio = str(sample.get("audio", ""))
    if not audio.startswith("LOOP "):
        return resolve_media_paths(FIXTURES, sample)
    _, count, file = audio.split(" ", 2)
    once, rate = read_wav(FIXTURES / file)
    looped = np.tile(once.astype(np.float32), int(count))
    return {**sample, "audio": {"array": looped, "sampling_rate": rate}}
