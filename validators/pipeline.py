"""Runs a task as ``pipeline()`` of transformers does, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from equipoise.convert.core.errors import InputError
from equipoise.exporters.artifact import find_manifest
from equipoise.validators.core.types import Answer, Batch, CallOption, Runner, Sample, SampleValue
from equipoise.validators.models.auto_classes import pytorch_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import FileSample
from equipoise.validators.models.sources import (
    ModelSource,
    is_class_backend,
    name_user_paths,
    resolve_artifact,
    resolve_model,
)
from equipoise.validators.parameters.declarations import pipeline_of
from equipoise.validators.parameters.options import CallOptions, sort_options
from equipoise.validators.pipeline_io import parse_inputs
from equipoise.validators.runtime.fixed_sizes import FixedSizeRunner
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.runtime.remote import RemoteModel, RemoteRunner
from equipoise.validators.tasks.base import find_task, pipeline_case

_OF_VALUES = (ArithmeticError, LookupError, TypeError, ValueError)
"""What Python and NumPy raise for values that do not fit: pipeline() raises them too."""


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
        options: Options of the pipeline's call: ``top_k``, ``aggregation_strategy`` ...; docs/run.md lists them.
        threads: Number of threads of the framework; 0 keeps its default.
        tell: Called with a note on code that is run, or that is not.

    Raises:
        InputError: The task, the model, an input or an option cannot be used.
        WorkerError: The backend failed.
    """
    with TaskPipeline(
        task, folder, backend=backend, companions=companions, device=device, workers=workers,
        threads=threads, tell=tell,
    ) as pipeline:  # fmt: skip
        rest = dict(options or {})
        # A task makes its samples, pictures among them, to say which fields they have.
        fields = pipeline.task.samples(pipeline.model)[0] if rest else ()
        given = {name: rest.pop(name) for name in fields if name in rest}
        samples = parse_inputs(pipeline.task, pipeline.model, inputs, given)
        return pipeline(samples, **rest)


class TaskPipeline:
    """A model that is loaded once and runs its task on many samples; it is a context manager.

    The arguments are those of :func:`run_pipeline`.

    Attributes:
        task: The task.
        model: The model's folder.

    Raises:
        InputError: The task or the model cannot be used.
        WorkerError: The backend failed.
    """

    def __init__(
        self,
        task: str,
        folder: str | Path,
        *,
        backend: str | None = None,
        companions: str | Path | None = None,
        device: str = "cpu",
        workers: WorkerPool | None = None,
        threads: int = 0,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._task_name = task
        self._tell = tell
        self.task = find_task(task)
        path = Path(folder)
        self.model = ModelFolder(companions or (path if path.is_dir() else path.parent))
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="equipoise-")))
            stack.enter_context(name_user_paths(path, scratch))
            processes = workers or stack.enter_context(WorkerPool())
            source = _resolve_source(self.model, path, backend, scratch)
            for note in (self.model.own_code_note, *source.code_notes(processes.limits)):
                if note:
                    tell(note)
            processes.preload(source.backend, self.model.class_name)
            self.model.load_processors()
            options = {"device": device, "threads": threads, **source.options}
            is_class = is_class_backend(source.backend)
            class_name = pytorch_class(self.model, self.task) if is_class else ""
            self._runner = RemoteRunner(
                RemoteModel(
                    processes.get(source.backend),
                    source.backend,
                    class_name,
                    source.path,
                    **options,
                )
            )
            self._input_shapes = _input_shapes(source)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __call__(self, samples: Sequence[Sample], **options: CallOption) -> list[Answer]:
        """Returns the result of each sample.

        Args:
            samples: Samples with the input names of the task.
            options: Options of the pipeline's call.

        Raises:
            InputError: A sample or an option cannot be used.
            WorkerError: The backend failed.
        """
        call = sort_options(self.task.name, options)
        self._note_sampling(call)
        try:
            return [
                self._answer(FileSample(sample, None, index), call)
                for index, sample in enumerate(samples)
            ]
        except _OF_VALUES as error:
            # Without options nothing can be wrong with their values.
            if not options:
                raise
            raise InputError(
                f"the call cannot be made with these options: {type(error).__name__}: {error}",
                found=", ".join(f"{name}={value!r}" for name, value in options.items()),
                hint="docs/run.md says what each option takes",
            ) from error

    def _answer(self, sample: Sample, call: CallOptions) -> Answer:
        declared = pipeline_of(self.task.name)
        case = pipeline_case(
            (sample,),
            cache=self._runner.caches,
            task=self._task_name,
            defaults=declared.defaults if declared else {},
            options=call.case,
        )
        batch = self.task.encode(self.model, case)
        outputs = self.task.run(self._fitting(batch), self.model, batch)
        return self.task.decode(self.model, batch, outputs, **call.decode)[0]

    def _fitting(self, batch: Batch) -> Runner:
        """Returns the runner; that of a program with fixed sizes fits the inputs to them."""
        if not self._input_shapes:
            return self._runner
        tokenizer = self.model.tokenizer if self.model.has_tokenizer else None
        return FixedSizeRunner(
            self._runner,
            self._input_shapes,
            int(getattr(tokenizer, "pad_token_id", None) or 0),
            batch.valid,
        )

    def _note_sampling(self, call: CallOptions) -> None:
        """Notes once that ``pipeline()`` would draw tokens where the best ones are chosen here."""
        declared = pipeline_of(self.task.name)
        if declared is None or not declared.generation or "do_sample" in call.case:
            return
        wants_draws = self.model.generation_config.get("do_sample")
        if declared.samples_by_default or wants_draws:
            self._tell(
                "pipeline() of transformers draws tokens here; run chooses the likeliest ones "
                "(--option do_sample=true --option seed=1 draws them)"
            )


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


def _input_shapes(source: ModelSource) -> dict[str, list[int | str]]:
    """Returns the shapes of a program's inputs, as its artifact.json has them; none for a checkpoint or another program."""
    if is_class_backend(source.backend):
        return {}
    inputs = find_manifest(Path(source.path)).get("inputs") or {}
    return {name: one["shape"] for name, one in inputs.items() if isinstance(one, dict)}
