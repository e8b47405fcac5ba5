"""Makes an artifact of a model: the target's ways one after the other, until the validator is content with one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from equipoise.convert.checkpoints.hub import resolve_source
from equipoise.convert.core.errors import InputError
from equipoise.exporters import artifact as folders
from equipoise.exporters.base import Target, is_fixed
from equipoise.exporters.inputs import Inputs
from equipoise.validators.accounts import account
from equipoise.validators.attempts import Made, Making, no_way
from equipoise.validators.examples import example_inputs, fixed_batch
from equipoise.validators.forms import Form, backend_names
from equipoise.validators.judging import judge
from equipoise.validators.reference import Measured, Reference
from equipoise.validators.request import Request
from equipoise.validators.result import Report
from equipoise.validators.setup import Setup, prepare
from equipoise.validators.targets import assert_usable, usable_target
from equipoise.validators.validate import report_of
from equipoise.validators.verdict import FINE, Verdict
from equipoise.validators.workers import Workers


@dataclass(frozen=True)
class Export:
    """An export to be.

    Attributes:
        request: The model, its task, precision, device and tolerance, as for a validation.
        output: The folder to write.
        target: The target's name.
        sizes: Axes (``batch``, ``sequence``) that are to have one size for good.
        judged: Whether the validator is asked.
        force: Whether a folder that is there may be replaced.
        ways: Which ways to try; None: all of the target, in its order.
        patch: A file with ``patch(model)``, called before exporting: for faults that are planted.
        options: Of the target: ``opset``, ``external``, ``max_shard_size``, ``merged``, ``optimize``, ``quantize``.
    """

    request: Request
    output: Path
    target: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    judged: bool = True
    force: bool = False
    ways: Sequence[str] | None = None
    patch: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What came of it.

    Attributes:
        artifact: What ``artifact.json`` says.
        report: The validator's report on the program that was kept; None where it was not asked.
    """

    artifact: folders.Artifact
    report: Report | None

    @property
    def verdict(self) -> Verdict | None:
        """That on the program; None where none was asked for."""
        return self.report.verdict if self.report else None


def export(wanted: Export, workers: Workers | None = None) -> Exported:
    """Makes the artifact.

    Raises:
        InputError: The model, the task, an option or the output cannot be used; nothing is left behind.
        WorkerError: Every way failed.
    """
    target, file = usable_target(wanted.target)
    with ExitStack() as stack:
        processes = workers or stack.enter_context(Workers())
        assert_usable(target, wanted.options, processes.chosen)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="equipoise-")))
        model = resolve_source(wanted.request.model)
        if not model.is_dir():
            raise InputError("an export needs a model's folder", file=model)
        setup = prepare(replace(wanted.request, model=model), processes, scratch)
        with folders.writing(
            wanted.output, model, setup.weight_bytes, force=wanted.force
        ) as partial:
            return _written(wanted, setup, target, Making(target, file, setup, partial))


def _written(wanted: Export, setup: Setup, target: Target, making: Making) -> Exported:
    inputs = example_inputs(setup, wanted.sizes, fixed=is_fixed(target))
    making = replace(
        making, inputs=inputs, patch=wanted.patch, options=dict(wanted.options), ways=wanted.ways
    )
    if wanted.judged:
        made, report = _best(wanted, setup, target, making)
    else:
        made, report = _first(making), None
    for path in sorted(made.folder.iterdir()):
        path.rename(making.folder / path.name)
    for path in sorted(making.folder.glob("way-*")):
        shutil.rmtree(path)
    found = account(wanted, setup, target, making, made, report)
    folders.save(found, making.folder)
    return Exported(found, report)


def _first(making: Making) -> Made:
    """The first way that makes anything."""
    for made in making.all():
        if made.made:
            return replace(made, tried=tuple(making.tried))
    raise no_way(making)


def _best(
    wanted: Export, setup: Setup, target: Target, making: Making
) -> tuple[Made, Report | None]:
    """The first way that the validator is content with, or the best of those that it is not."""
    if target.name not in backend_names():
        return _first(making), None
    kept: tuple[Made, Report] | None = None
    if wanted.sizes or is_fixed(target):
        # A program of fixed sizes can take one case alone: that of those sizes.
        setup = replace(setup, batches=(fixed_batch(setup, wanted.sizes),))
    with Reference(setup) as reference:
        measured = reference.measure(setup.batches)
        for made in making.all():
            if not made.made:
                continue
            report = _judged(setup, made, measured, reference)
            making.judged(made, report)
            if kept is None or report.verdict.rank < kept[1].verdict.rank:
                kept = (made, report)
            if report.verdict in _wanted(wanted):
                break
    if kept is None:
        raise no_way(making)
    return replace(kept[0], tried=tuple(making.tried)), kept[1]


def _wanted(wanted: Export) -> tuple[Verdict, ...]:
    """Verdicts that end the search: weights of eight bits are beyond noise by nature."""
    return (*FINE, Verdict.DECISION_SAFE) if wanted.options.get("quantize") else FINE


def _judged(setup: Setup, made: Made, measured: Sequence[Measured], reference: Reference) -> Report:
    results = [judge(setup, form, measured, reference) for form in forms_of(made)]
    return report_of(setup, reference, measured, results)


def forms_of(made: Made) -> list[Form]:
    """The forms in which a program is judged: ONNX with the rewriting of ONNX Runtime and without."""
    backend = made.target
    if backend != "onnx":
        return [Form(backend, made.path, made.way)]
    return [
        Form(backend, made.path, made.way),
        Form(backend, made.path, made.way, options={"optimize": False}, label="onnx, as written"),
    ]


def on_the_fly(setup: Setup, name: str) -> Form:
    """A program of the setup's model in its scratch folder, by the first way that makes one.

    Raises:
        InputError: The target's packages are not there, or its programs have one size.
        WorkerError: Every way failed.
    """
    target, file = usable_target(name)
    if is_fixed(target):
        raise InputError(
            f"a program of {name} takes inputs of one size, not all cases",
            hint=f"equipoise export MODEL OUT --to {name} judges it at that size",
        )
    assert_usable(target, {}, setup.workers.chosen)
    folder = setup.scratch / f"exported-{name}"
    folder.mkdir()
    inputs: Inputs = example_inputs(setup, {})
    made = _first(replace(Making(target, file, setup, folder), inputs=inputs))
    return Form(name, made.path, f"exported ({made.way})")
