"""One backend: loaded, run on every case, judged; what goes wrong with it becomes part of its result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from equipoise.convert.core.errors import EquipoiseError, WorkerError
from equipoise.validators.environment import RemoteModel
from equipoise.validators.forms import CLASSES, Form
from equipoise.validators.golden import Golden
from equipoise.validators.inside import look_inside
from equipoise.validators.model import ModelFolder
from equipoise.validators.reference import Measured, Reference
from equipoise.validators.remote import RemoteRunner
from equipoise.validators.result import BackendResult
from equipoise.validators.runner import Arrays
from equipoise.validators.setup import Setup
from equipoise.validators.verdict import CaseFigures, judge_case


def judge(
    setup: Setup, form: Form, measured: Sequence[Measured], reference: Reference | Golden
) -> BackendResult:
    """The result of one backend."""
    result = BackendResult(form.backend, _label(setup, form), form.origin, str(form.path))
    setup.request.progress(f"{result.label}: loading")
    try:
        hello = setup.workers.hello(form.backend)
        runner = _load(setup, form)
    except WorkerError as error:
        if error.kind == "LookupError" and setup.request.backends is None:
            return replace(result, absent=error.message.splitlines()[0].partition("Error: ")[2])
        return replace(result, failure=error.message)
    except EquipoiseError as error:
        return replace(result, failure=error.message)
    result = replace(
        result,
        about=runner.model.about,
        versions=hello["versions"],
        notes=_ignored_inputs(setup, runner, reference),
    )
    if problem := _random_weights(runner):
        return replace(result, failure=problem)
    result = _run(setup, result, runner, measured)
    setup.request.progress(f"{result.label}: judged")
    if not result.failure and isinstance(reference, Reference):
        result = look_inside(setup, form, result, runner, measured, reference)
    with suppress(WorkerError):  # the process is gone; its failure is told already
        runner.model.drop()
    return result


def _label(setup: Setup, form: Form) -> str:
    if form.label:
        return form.label
    if form.backend.endswith(".py"):
        return Path(form.backend).stem
    if form.origin != "as given" or form.path == setup.model.path:
        return form.backend
    return f"{form.backend} ({form.path.name})"


def _load(setup: Setup, form: Form) -> RemoteRunner:
    """The model of a form; an artifact that is a checkpoint names its own class."""
    options = setup.request.options(**form.options)
    class_name = setup.class_name
    if form.backend in CLASSES and (form.path / "config.json").is_file():
        class_name = ModelFolder(form.path).class_name or class_name
    environment = setup.workers.get(form.backend)
    return RemoteRunner(RemoteModel(environment, form.backend, class_name, form.path, **options))


def _random_weights(runner: RemoteRunner) -> str:
    missing = runner.model.info.get("missing_keys")
    if not missing:
        return ""
    return f"its loader found no values for {len(missing)} weights, which would be random: {missing[0]}"


def _ignored_inputs(
    setup: Setup, runner: RemoteRunner, reference: Reference | Golden
) -> tuple[str, ...]:
    """Inputs of the samples that the backend does not take, though PyTorch does."""
    used = {name for batch in setup.batches for name in batch.arrays}
    ignored = sorted((used & reference.accepts) - runner.accepts)
    return (f"it does not take {', '.join(ignored)}",) if ignored else ()


def _run(
    setup: Setup, result: BackendResult, runner: RemoteRunner, measured: Sequence[Measured]
) -> BackendResult:
    """Every case; one that fails does not stop the others while the process lives."""
    cases: list[CaseFigures] = []
    answers: tuple[object, ...] = ()
    carried = [one for one in measured if runner.caches or not one.batch.case.options.get("cache")]
    for one in carried:
        setup.request.progress(f"{result.label}: {one.batch.case.name}")
        before = len(runner.account.seconds)
        try:
            outputs = setup.task.run(runner, setup.model, one.batch, follow=one.reference)
            figures = _figures(setup, result, one, outputs)
            answers = answers or tuple(setup.task.decode(setup.model, one.batch, outputs))
        except (EquipoiseError, KeyError, ValueError, IndexError, TypeError) as error:
            text = error.message if isinstance(error, EquipoiseError) else repr(error)
            figures = CaseFigures(one.batch.case.name, failure=text)
        seconds = tuple(runner.account.seconds[before:])
        cases.append(replace(figures, seconds=seconds))
        if figures.failure and not runner.model.environment.alive:
            break
    if left := [one.batch.case.name for one in measured if one not in carried]:
        note = f"it keeps no cache, so these cases were not run: {', '.join(left)}"
        result = replace(result, notes=(*result.notes, note))
    failures = [f"{case.case}: {case.failure}" for case in cases if case.failure]
    return replace(
        result,
        cases=tuple(cases),
        answers=answers,
        failure=failures[0] if failures else "",
        seconds=sum(runner.account.seconds),
        peak_bytes=runner.account.peak_bytes,
    )


def _figures(setup: Setup, result: BackendResult, one: Measured, outputs: Arrays) -> CaseFigures:
    read = frozenset(decision.output for decision in one.decisions)
    # Outputs of models within the model (text_model_output.pooler_output) may stay inside a program.
    own = frozenset(name for name in one.reference if "." not in name)
    if result.backend in ("tensorflow", "flax"):
        # Of those, the releases differ: transformers 5 has the projected embedding in CLIP's pooler_output.
        outputs = {name: value for name, value in outputs.items() if "." not in name}
    return judge_case(
        one.batch.case.name,
        outputs,
        one.reference,
        one.truth,
        valid=one.batch.valid,
        precision=setup.request.rounding,
        tolerance=setup.request.allowed,
        decisions=one.decisions,
        own=setup.task.decisions(setup.model, one.batch, outputs) if one.decisions else (),
        # Classes of another framework may return less than PyTorch's; what the task reads must be there.
        required=read or None if result.backend in CLASSES else own | read,
        noises=one.noises,
    )
