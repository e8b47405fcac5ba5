"""Runs a task as ``pipeline()`` did, on any backend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.validators.architectures import pytorch_class
from equipoise.validators.environment import RemoteModel
from equipoise.validators.forms import CLASSES, Form, form_of_artifact, form_of_model
from equipoise.validators.model import ModelFolder
from equipoise.validators.remote import RemoteRunner
from equipoise.validators.tasks import find_task
from equipoise.validators.tasks.base import Sample, Task, plain_case
from equipoise.validators.workers import Workers

_LISTS = ("candidate_labels", "video")
"""Entries of samples that are lists; on a command line they are separated by commas."""


def run(
    task: str,
    folder: str | Path,
    inputs: Sequence[str | Mapping[str, Any]],
    *,
    backend: str | None = None,
    companions: str | Path | None = None,
    device: str = "cpu",
    workers: Workers | None = None,
    options: Mapping[str, Any] | None = None,
    threads: int = 0,
) -> list[Any]:
    """What ``pipeline(task, model)(inputs)`` returns, one result a sample.

    Args:
        task: The task's name.
        folder: A model, or an artifact with its companions (config, tokenizer) beside it.
        inputs: Samples; texts are read as :func:`samples_from` says.
        backend: What runs it; None: what the folder holds, PyTorch if it holds a checkpoint.
        companions: The model's folder, where an artifact has no companions beside it.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        workers: Processes to use.
        options: Those of the pipeline's call: ``top_k``, ``aggregation_strategy`` ...
        threads: Of the framework; 0 leaves it alone.

    Raises:
        InputError: The task, the model, an input or an option cannot be used.
        WorkerError: The backend failed.
    """
    found = find_task(task)
    place = Path(folder)
    model = ModelFolder(companions or (place if place.is_dir() else place.parent))
    samples = samples_from(found, model, inputs)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="equipoise-")))
        processes = workers or stack.enter_context(Workers())
        form = _form(model, place, backend, scratch)
        runner = _load(found, model, form, processes, device=device, threads=threads)
        return [_answer(found, model, runner, sample, options or {}) for sample in samples]


def _form(model: ModelFolder, place: Path, backend: str | None, scratch: Path) -> Form:
    if backend in CLASSES:
        return form_of_model(model, str(backend), scratch)
    form = form_of_artifact(place)
    if backend is not None and form.backend != backend:
        raise InputError(
            f"there is no program for {backend} in it", file=place, found=f"one for {form.backend}"
        )
    if form.backend in CLASSES and backend is None:
        return form_of_model(model, "pytorch", scratch)
    return form


def _load(
    task: Task, model: ModelFolder, form: Form, workers: Workers, *, device: str, threads: int
) -> RemoteRunner:
    options = {"device": device, "threads": threads, **form.options}
    class_name = pytorch_class(model, task) if form.backend in CLASSES else ""
    environment = workers.get(form.backend)
    return RemoteRunner(RemoteModel(environment, form.backend, class_name, form.path, **options))


def _answer(
    task: Task,
    model: ModelFolder,
    runner: RemoteRunner,
    sample: Sample,
    options: Mapping[str, Any],
) -> Any:
    of_answer, of_case = parted(options)
    case = plain_case((sample,), cache=runner.caches)
    batch = task.encode(model, replace(case, options={**case.options, **of_case}))
    outputs = task.run(runner, model, batch)
    return task.decode(model, batch, outputs, **of_answer)[0]


_OF_CASE = {
    "num_beams": "beams",
    "max_new_tokens": "max_new_tokens",
    "points_per_crop": "points_per_side",
}
"""Options of pipeline() that say how the model is called, by our names."""


def parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a pipeline's call, parted into those of the answer and those of calling the model.

    Raises:
        InputError: Tokens are to be drawn at random; every backend would draw others.
    """
    every = {**options, **(options.get("generate_kwargs") or {})}
    every.pop("generate_kwargs", None)
    if every.pop("do_sample", False):
        raise InputError("nothing is sampled here", hint="do_sample=false, or beams: num_beams=4")
    case = {ours: every.pop(theirs) for theirs, ours in _OF_CASE.items() if theirs in every}
    return every, case


def samples_from(
    task: Task, model: ModelFolder, inputs: Sequence[str | Mapping[str, Any]]
) -> list[Sample]:
    """Samples of what a command line gives.

    A text that begins with ``{`` is a JSON object. Where a sample of the task has one entry, each text is a
    sample; else the texts are the entries of one sample, in their order, or ``name=value`` each.

    Raises:
        InputError: Their number or a name does not fit the task.
    """
    fields = list(task.samples(model)[0])
    objects = [_object(one) for one in inputs]
    if all(one is not None for one in objects):
        return [one for one in objects if one is not None]
    texts = [str(one) for one in inputs]
    if len(fields) == 1:
        return [{fields[0]: _value(fields[0], text)} for text in texts]
    named = [text.partition("=") for text in texts]
    if all(name in fields for name, _, _ in named):
        return [{name: _value(name, value) for name, _, value in named}]
    if len(texts) != len(fields):
        raise InputError(
            f"{task.name} takes {len(fields)} inputs",
            expected=" ".join(field.upper() for field in fields),
            found=f"{len(texts)}",
            hint="give them in this order, as NAME=VALUE, or one JSON object for each sample",
        )
    return [{field: _value(field, text) for field, text in zip(fields, texts, strict=True)}]


def _object(one: str | Mapping[str, Any]) -> Mapping[str, Any] | None:
    if isinstance(one, Mapping):
        return one
    if not one.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(one)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", found=one) from error
    return value if isinstance(value, dict) else None


def _value(name: str, text: str) -> Any:
    if name in _LISTS and not Path(text).exists():
        return [part.strip() for part in text.split(",") if part.strip()]
    if name in ("table", "word_boxes"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError(f"{name} is no JSON: {error}", found=text) from error
    return text


def as_json(value: Any, folder: Path | None = None, name: str = "0") -> Any:
    """A result as JSON values; pictures and sounds become files of a folder, or a line about them.

    Args:
        value: The result.
        folder: Where pictures and sounds go; None: nowhere.
        name: How files are called.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(one, folder, f"{name}-{key}") for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one, folder, f"{name}-{index}") for index, one in enumerate(value)]
    if hasattr(value, "save") and hasattr(value, "mode"):
        if folder is None:
            return {"picture": {"size": list(value.size), "mode": value.mode}}
        folder.mkdir(parents=True, exist_ok=True)
        value.save(folder / f"{name}.png")
        return str(folder / f"{name}.png")
    if hasattr(value, "tolist"):
        return value.tolist()
    return value
