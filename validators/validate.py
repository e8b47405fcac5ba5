"""Runs a model's task on every backend and judges each against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.validators import golden, machine
from equipoise.validators.again import command
from equipoise.validators.forms import (
    CLASSES,
    Form,
    backend_names,
    form_of_artifact,
    form_of_model,
)
from equipoise.validators.golden import Golden
from equipoise.validators.judging import judge
from equipoise.validators.pythons import python_of
from equipoise.validators.reference import Measured, Reference, reference_row
from equipoise.validators.request import Request
from equipoise.validators.result import BackendResult, Report, plain
from equipoise.validators.setup import Setup, prepare
from equipoise.validators.workers import Workers

STAND_INS = {"flax": "stablehlo", "tensorflow": "saved-model"}
"""Backends of classes -> targets whose programs run on the same framework."""


def validate(request: Request, workers: Workers | None = None) -> Report:
    """Runs the task of a model on every backend and gives the verdicts.

    Args:
        request: What to do.
        workers: Processes to use; without them, processes are made and ended here.

    Raises:
        InputError: The model, the task, a sample or an artifact cannot be used.
        WorkerError: PyTorch itself fails at the model; what any other backend fails at is in the report.
    """
    with tempfile.TemporaryDirectory(prefix="equipoise-") as scratch:
        if workers is not None:
            return report(prepare(request, workers, Path(scratch)))
        with Workers() as own:
            return report(prepare(request, own, Path(scratch)))


def report(setup: Setup) -> Report:
    """Runs what is set up."""
    request = setup.request
    artifacts = [form_of_artifact(path) for path in request.artifacts]
    with reference_of(setup) as reference:
        measured = reference.measure(setup.batches)
        results = [
            form if isinstance(form, BackendResult) else judge(setup, form, measured, reference)
            for form in [*artifacts, *_own_forms(setup, artifacts)]
        ]
        report = report_of(setup, reference, measured, results)
    if request.save_golden is not None:
        golden.save(request.save_golden, setup, report.reference, measured)
    return report


def report_of(
    setup: Setup,
    reference: Reference | Golden,
    measured: Sequence[Measured],
    results: Sequence[BackendResult],
) -> Report:
    """What was found, with all that it was found on."""
    request = setup.request
    return Report(
        model=str(request.model),
        model_type=setup.model.model_type,
        class_name=setup.class_name,
        task=setup.task.name,
        precision=request.precision,
        device=request.device,
        tolerance=request.allowed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.about(),
        samples=tuple(plain(dict(sample)) for sample in setup.batches[0].case.samples),
        reference=reference_row(setup, reference, measured),
        backends=tuple(results),
        command=command(request, setup.task.name, setup.workers.chosen),
    )


@contextmanager
def reference_of(setup: Setup) -> Iterator[Reference | Golden]:
    """PyTorch, or what was kept of it."""
    if setup.request.against_golden is not None:
        yield golden.load(setup, setup.request.against_golden)
        return
    with Reference(setup) as reference:
        yield reference


def _own_forms(setup: Setup, artifacts: list[Form]) -> Iterator[Form | BackendResult]:
    """The model itself on backends of classes; where it cannot be had, a result that says why."""
    asked = setup.request.backends
    for name in CLASSES if asked is None else asked:
        if name.endswith(".py"):
            yield Form(name, setup.pytorch.path)
            continue
        if name not in backend_names():
            raise InputError("no such backend", found=name, expected=", ".join(backend_names()))
        if name not in CLASSES:
            if all(form.backend != name for form in artifacts):
                yield _program(setup, name)
            continue
        if asked is None and name == "pytorch" and setup.request.device == "cpu":
            continue  # it is the reference itself
        try:
            python_of(name, setup.workers.chosen)
            yield form_of_model(setup.model, name, setup.scratch)
        except EquipoiseError as error:
            text = error.message.splitlines()[0]
            if asked is None:
                yield BackendResult(name, name, absent=text)
            else:
                yield _stand_in(setup, name) or BackendResult(name, name, failure=text)


def _stand_in(setup: Setup, name: str) -> Form | None:
    """Where the classes of a framework are not to be had, a program for it that is made from PyTorch's model.

    It shows that the framework's arithmetic agrees; of the mapping of weights only the classes are a proof.
    """
    if name not in STAND_INS:
        return None
    found = _program(setup, STAND_INS[name])
    if isinstance(found, BackendResult):
        return None
    return replace(found, label=f"{name}: a {found.backend} made from PyTorch")


def _program(setup: Setup, name: str) -> Form | BackendResult:
    """A program that is made for the occasion, where a target of that name makes such."""
    from equipoise.exporters.base import target_names
    from equipoise.validators.exporting import on_the_fly

    if name not in target_names():
        return BackendResult(name, name, failure="no artifact was given for it")
    setup.request.progress(f"{name}: exporting")
    try:
        return on_the_fly(setup, name)
    except EquipoiseError as error:
        return BackendResult(name, name, failure=str(error).splitlines()[0])
