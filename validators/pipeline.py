"""Runs a task as ``pipeline()`` of transformers does, on any backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import PilImage
from equipoise.convert.files.output_file import write_output_file
from equipoise.validators.core.types import Answer, CallOption, Sample, SampleValue
from equipoise.validators.models.auto_classes import pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.sources import (
    ModelSource,
    is_class_backend,
    name_user_paths,
    resolve_artifact,
    resolve_model,
)
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner
from equipoise.validators.tasks.base import Task, find_task, pipeline_case

_LIST_FIELDS = ("candidate_labels", "video")
"""Fields of samples that are lists; on a command line their items are separated by commas."""


def run_pipeline(
    task: str,
    folder: str | Path,
    inputs: Sequence[str | Mapping[str, SampleValue]],
    *,
    backend: str | None = None,
    companions: str | Path | None = None,
    device: str = "cpu",
    workers: WorkerPool | None = None,
    options: Mapping[str, CallOption] | None = None,
    threads: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Answer]:
    """Returns what ``pipeline(task, model)(inputs)`` returns, one result per sample.

    Args:
        task: The task's name.
        folder: A model, or an artifact with its config and tokenizer.
        inputs: Samples; :func:`parse_inputs` reads texts.
        backend: The backend; None: the one that fits the folder, PyTorch for a checkpoint.
        companions: The model's folder, if an artifact has no config and tokenizer.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        workers: Worker processes to use.
        options: Options of the pipeline's call: ``top_k``, ``aggregation_strategy`` ...
        threads: Number of threads of the framework; 0 keeps its default.
        tell: Called with a note on code that is run, or that is not.

    Raises:
        InputError: The task, the model, an input or an option cannot be used.
        WorkerError: The backend failed.
    """
    resolved_task = find_task(task)
    path = Path(folder)
    model = ModelFolder(companions or (path if path.is_dir() else path.parent))
    samples = parse_inputs(resolved_task, model, inputs)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="equipoise-")))
        stack.enter_context(name_user_paths(path, scratch))
        processes = workers or stack.enter_context(WorkerPool())
        source = _resolve_source(model, path, backend, scratch)
        for note in (model.own_code_note, *source.code_notes(processes.limits)):
            if note:
                tell(note)
        runner = _load_runner(
            resolved_task, model, source, processes, device=device, threads=threads
        )
        return [
            _answer_sample(resolved_task, model, runner, sample, options or {})
            for sample in samples
        ]


def _resolve_source(
    model: ModelFolder, path: Path, backend: str | None, scratch: Path
) -> ModelSource:
    if backend is not None and is_class_backend(backend):
        return resolve_model(model, str(backend), scratch)
    source = resolve_artifact(path)
    if backend is not None and source.backend != backend:
        raise InputError(
            f"there is no program for {backend}", file=path, found=f"one for {source.backend}"
        )
    if is_class_backend(source.backend) and backend is None:
        return resolve_model(model, "pytorch", scratch)
    return source


def _load_runner(
    task: Task,
    model: ModelFolder,
    source: ModelSource,
    workers: WorkerPool,
    *,
    device: str,
    threads: int,
) -> RemoteRunner:
    options = {"device": device, "threads": threads, **source.options}
    class_name = pytorch_class(model, task) if is_class_backend(source.backend) else ""
    environment = workers.get(source.backend)
    return RemoteRunner(
        RemoteModel(environment, source.backend, class_name, source.path, **options)
    )


def _answer_sample(
    task: Task,
    model: ModelFolder,
    runner: RemoteRunner,
    sample: Sample,
    options: Mapping[str, CallOption],
) -> Answer:
    decode_options, case_options = split_call_options(options)
    case = pipeline_case((sample,), cache=runner.caches)
    batch = task.encode(model, replace(case, options={**case.options, **case_options}))
    outputs = task.run(runner, model, batch)
    return task.decode(model, batch, outputs, **decode_options)[0]


_CASE_OPTIONS = {
    "num_beams": "num_beams",
    "max_new_tokens": "max_new_tokens",
    "points_per_crop": "points_per_side",
}
"""Options of pipeline() that change how the model is called -> options of a case."""


def split_call_options(
    options: Mapping[str, CallOption],
) -> tuple[dict[str, CallOption], dict[str, CallOption]]:
    """Splits the options of a pipeline's call into those of decoding and those of a case.

    Raises:
        InputError: The options ask for sampling, whose tokens would differ between backends.
    """
    decode_options = {**options, **(options.get("generate_kwargs") or {})}
    decode_options.pop("generate_kwargs", None)
    if decode_options.pop("do_sample", False):
        raise InputError(
            "sampling is not supported", hint="do_sample=false, or beam search: num_beams=4"
        )
    case_options = {
        case_name: decode_options.pop(name)
        for name, case_name in _CASE_OPTIONS.items()
        if name in decode_options
    }
    return decode_options, case_options


def parse_inputs(
    task: Task, model: ModelFolder, inputs: Sequence[str | Mapping[str, SampleValue]]
) -> list[Sample]:
    """Reads samples from a command line.

    A text that starts with ``{`` is a JSON object. If a sample of the task has one field, each text is a
    sample; else the texts are the fields of one sample, in their order or as ``name=value``.

    Raises:
        InputError: Their number or a name does not fit the task.
    """
    fields = list(task.samples(model)[0])
    objects = [_parse_object(item) for item in inputs]
    if all(item is not None for item in objects):
        return [item for item in objects if item is not None]
    texts = [str(item) for item in inputs]
    if len(fields) == 1:
        return [{fields[0]: _parse_field(fields[0], text)} for text in texts]
    pairs = [text.partition("=") for text in texts]
    if all(name in fields for name, _, _ in pairs):
        return [{name: _parse_field(name, value) for name, _, value in pairs}]
    if len(texts) != len(fields):
        raise InputError(
            f"{task.name} takes {len(fields)} inputs",
            expected=" ".join(field.upper() for field in fields),
            found=f"{len(texts)}",
            hint="give them in this order, as NAME=VALUE, or one JSON object for each sample",
        )
    return [{field: _parse_field(field, text) for field, text in zip(fields, texts, strict=True)}]


def _parse_object(item: str | Mapping[str, SampleValue]) -> Mapping[str, SampleValue] | None:
    if isinstance(item, Mapping):
        return item
    if not item.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(item)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", found=item) from error
    return value if isinstance(value, dict) else None


def _parse_field(name: str, text: str) -> SampleValue:
    if name in _LIST_FIELDS and not Path(text).exists():
        return [part.strip() for part in text.split(",") if part.strip()]
    if name in ("table", "word_boxes"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError(f"{name} is not JSON: {error}", found=text) from error
    return text


def to_json(value: Answer, folder: Path | None = None, name: str = "0") -> Any:
    """Returns a result as JSON values; images become files of a folder or a short description.

    Args:
        value: The result.
        folder: Where to save images; None: they are only described.
        name: Stem of the file names.
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item, folder, f"{name}-{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, folder, f"{name}-{index}") for index, item in enumerate(value)]
    if hasattr(value, "save") and hasattr(value, "mode"):
        if folder is None:
            return {"picture": {"size": list(value.size), "mode": value.mode}}
        write_output_file(folder / f"{name}.png", _encode_png(value))
        return str(folder / f"{name}.png")
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _encode_png(image: PilImage) -> bytes:
    """Returns an image as a PNG file that names Equipoise."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("generator", "equipoise")
    stream = BytesIO()
    image.save(stream, "png", pnginfo=info)
    return stream.getvalue()
