"""PyTorch twice: in float64 as the truth, and at the precision under test as the measure of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from equipoise.convert.core.errors import InputError
from equipoise.validators.divergence import capture
from equipoise.validators.environment import RemoteModel
from equipoise.validators.recorder import Recorder
from equipoise.validators.remote import Module, RemoteRunner
from equipoise.validators.result import BackendResult
from equipoise.validators.runner import Arrays
from equipoise.validators.setup import REFERENCE, Setup
from equipoise.validators.tasks.base import Batch, Decision
from equipoise.validators.verdict import CaseFigures, judge_case

DRAWS = 2
"""How often the reference is run with moved weights: one reference may be near the truth by luck."""


@dataclass(frozen=True)
class Measured:
    """One case on both.

    Attributes:
        batch: The case's arrays.
        reference: Outputs at the precision under test.
        truth: Outputs in float64.
        decisions: Those read off the reference.
        seconds: The reference's passes.
        noises: The reference's outputs with every weight moved by one rounding, drawn :data:`DRAWS` times.
    """

    batch: Batch
    reference: Arrays
    truth: Arrays
    decisions: tuple[Decision, ...]
    seconds: tuple[float, ...]
    noises: tuple[Arrays, ...] = ()


@dataclass(frozen=True)
class Inside:
    """Both from within, on one case.

    Attributes:
        case: Its name.
        probes: The passes that show it.
        truth: Every module's values in float64.
        reference: The same at the precision under test.
    """

    case: str
    probes: Sequence[Arrays]
    truth: Sequence[Module]
    reference: Sequence[Module]


class Reference:
    """Both models in one worker process, on the CPU: that is what every device is held to.

    A large model is loaded when it is needed and makes room for the next one.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._held: dict[str, RemoteRunner] = {}
        self._first = self.reference
        self._hello = setup.workers.hello("pytorch", apart=REFERENCE)
        self._inside: Inside | None = None

    @property
    def reference(self) -> RemoteRunner:
        """The model at the precision under test."""
        return self._model(self.setup.request.precision)

    @property
    def truth(self) -> RemoteRunner:
        """The model in float64."""
        return self._model("float64")

    def _model(self, precision: str) -> RemoteRunner:
        if precision not in self._held:
            self._make_room()
            self._held[precision] = self._load(precision)
        return self._held[precision]

    def _make_room(self) -> None:
        """A large model goes before the next one comes."""
        if self.setup.large:
            self.setup.make_room(REFERENCE)
            self._held.clear()

    def _load(self, precision: str, jitter: int | None = None) -> RemoteRunner:
        setup = self.setup
        options = {**setup.request.options(), "dtype": precision, "device": "cpu", "tf32": False}
        if jitter is not None:
            options["jitter"] = jitter
        environment = setup.workers.get("pytorch", apart=REFERENCE)
        form = setup.pytorch
        model = RemoteModel(environment, "pytorch", setup.class_name, form.path, **options)
        if missing := model.info.get("missing_keys"):
            raise InputError(
                f"PyTorch finds no values for {len(missing)} parameters, which would be random",
                file=form.path,
                tensor=missing[0],
                hint="is it another class's checkpoint? `equipoise inspect` shows what it holds",
            )
        return RemoteRunner(model)

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model takes."""
        return self._first.accepts

    def measure(self, batches: Sequence[Batch]) -> list[Measured]:
        """Runs every case on both, and on the reference with moved weights."""
        measured = [self._measure(batch) for batch in batches]
        measured = [replace(one, truth=self._run(self.truth, one, "truth")) for one in measured]
        for seed in range(DRAWS):
            self._make_room()
            runner = self._load(self.setup.request.precision, jitter=seed)
            measured = [
                replace(one, noises=(*one.noises, self._run(runner, one, f"noise {seed + 1}")))
                for one in measured
            ]
            runner.model.drop()
        self._make_room()
        return measured

    def _measure(self, batch: Batch) -> Measured:
        """Runs a case on the reference."""
        setup = self.setup
        setup.request.progress(f"reference: {batch.case.name}")
        before = len(self.reference.account.seconds)
        outputs = setup.task.run(self.reference, setup.model, batch)
        seconds = tuple(self.reference.account.seconds[before:])
        decisions = tuple(setup.task.decisions(setup.model, batch, outputs))
        return Measured(batch, outputs, {}, decisions, seconds)

    def _run(self, runner: RemoteRunner, one: Measured, what: str) -> Arrays:
        """A case once more, along the way that the reference took."""
        self.setup.request.progress(f"{what}: {one.batch.case.name}")
        return self.setup.task.run(runner, self.setup.model, one.batch, follow=one.reference)

    def inside(self, one: Measured) -> Inside:
        """Every module's values on truth and reference; the last case is kept for the next backend."""
        if self._inside is None or self._inside.case != one.batch.case.name:
            probes, kwargs = self._probes(one), one.batch.kwargs
            self._inside = Inside(
                case=one.batch.case.name,
                probes=probes,
                truth=capture(self.truth, probes, kwargs),
                reference=capture(self.reference, probes, kwargs),
            )
        return self._inside

    def _probes(self, one: Measured) -> Sequence[Arrays]:
        """Passes that show the model on a case: of a loop the last one, with a cache the first two."""
        recorder = Recorder(self.reference)
        self.setup.task.run(recorder, self.setup.model, one.batch, follow=one.reference)
        return recorder.steps[:2] or recorder.passes[-1:]

    @cached_property
    def weights(self) -> list[str]:
        """PyTorch's weights by name."""
        return list(self.reference.model.names())

    @cached_property
    def renamed(self) -> dict[str, str]:
        """The file's names of weights that the model calls otherwise, with the model's."""
        return self.reference.model.renamed()

    def about(self) -> tuple[RemoteRunner, Mapping[str, Any]]:
        """The model at the precision under test, and what its process is."""
        return self._first, self._hello

    def close(self) -> None:
        """Frees the models, if their process still runs."""
        for runner in self._held.values():
            if runner.model.environment.alive:
                runner.model.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()


def reference_row(setup: Setup, reference: object, measured: Sequence[Measured]) -> BackendResult:
    """The reference as a row of the report: its error is the noise."""
    first = measured[0]
    row = BackendResult(
        backend="pytorch",
        label="pytorch (reference)",
        origin="kept" if setup.request.against_golden else setup.pytorch.origin,
        source=str(setup.request.against_golden or setup.pytorch.path),
        cases=tuple(_noise(setup, one) for one in measured),
        seconds=sum(sum(one.seconds) for one in measured),
        answers=tuple(setup.task.decode(setup.model, first.batch, first.reference)),
    )
    if not isinstance(reference, Reference):
        return row
    runner, hello = reference.about()
    return replace(
        row,
        about=runner.model.about,
        versions=hello["versions"],
        peak_bytes=runner.account.peak_bytes,
    )


def _noise(setup: Setup, one: Measured) -> CaseFigures:
    found = judge_case(
        one.batch.case.name,
        one.reference,
        one.reference,
        one.truth,
        valid=one.batch.valid,
        precision=setup.request.rounding,
        tolerance=setup.request.allowed,
        decisions=one.decisions,
        own=one.decisions,
        noises=one.noises,
    )
    return replace(found, seconds=one.seconds)
