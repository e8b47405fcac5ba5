"""A plugin for pytest: the fixture ``parity`` validates a model on every backend and fails if one diverges.

pytest imports this module in every run, so at module level it imports nothing but pytest and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from equipoise.validators.core.types import Sample
    from equipoise.validators.judgement.results import Report
    from equipoise.validators.runtime.process import WorkerPool


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--equipoise-env`` and ``--equipoise-report``."""
    group = parser.getgroup("equipoise", "parity of models on several backends")
    group.addoption(
        "--equipoise-env",
        action="append",
        default=[],
        metavar="BACKEND=PYTHON",
        help="interpreter (or named environment) of a backend; oracle=PYTHON for TensorFlow and Flax",
    )
    group.addoption(
        "--equipoise-report", metavar="DIR", help="write a page and a JSON file for each comparison"
    )


@pytest.fixture(scope="session")
def _equipoise_workers(pytestconfig: pytest.Config) -> Iterator[WorkerPool]:
    """Provides worker processes, which are started when first needed and live as long as the session."""
    from equipoise.validators.runtime.process import WorkerPool

    with WorkerPool(_parse_environments(pytestconfig.getoption("--equipoise-env"))) as workers:
        yield workers


def _parse_environments(options: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in options]
    if invalid := [text for text, pair in zip(options, pairs, strict=True) if not all(pair)]:
        raise pytest.UsageError(f"--equipoise-env {invalid[0]}: expected BACKEND=PYTHON")
    return {name: python for name, _, python in pairs}


@pytest.fixture
def parity(request: pytest.FixtureRequest, _equipoise_workers: WorkerPool) -> Parity:
    """Returns a callable that takes a model's folder and fails the test unless every backend matches PyTorch."""
    folder = request.config.getoption("--equipoise-report")
    return Parity(_equipoise_workers, request.node.nodeid, Path(folder) if folder else None)


class Parity:
    """The object that the fixture ``parity`` returns.

    Args:
        workers: Worker processes to run models in.
        name: Name of the test, used for file names.
        folder: Folder for reports, or None.
    """

    def __init__(self, workers: WorkerPool, name: str, folder: Path | None) -> None:
        self.workers = workers
        self.name = name
        self.folder = folder
        self.count = 0

    def __call__(
        self,
        model: str | Path,
        artifacts: Sequence[str | Path] = (),
        *,
        backends: Sequence[str] | None = None,
        task: str | None = None,
        precision: str = "fp32",
        device: str = "cpu",
        strict: bool = True,
        samples: str | Path | Sequence[Sample] | None = None,
        cases: Sequence[str] | None = None,
        against_golden: str | Path | None = None,
    ) -> Report:
        """Validates a model and returns the report.

        Args:
            model: The model's folder.
            artifacts: Programs and checkpoints to compare with the model.
            backends: Backends to run the model itself on; None: all backends of classes that are available.
            task: A task of ``pipeline()``; None: the one that the model is made for.
            precision: ``fp32``, ``fp16`` or ``bf16``.
            device: ``cpu``, ``cuda`` or ``cuda:1``.
            strict: Whether *decision-safe* fails the test too; quantized programs pass with it.
            samples: Samples as ``samples.json`` has them (``{"inputs": {"text": "..."}}``), plain inputs (``{"text": "..."}``), or
                a file of them, to use instead of the model's.
            cases: Names of cases; None: all.
            against_golden: A folder with PyTorch's outputs, from ``--save-golden``.

        Raises:
            AssertionError: A backend diverged or failed, or none was available.
            EquipoiseError: The model, the task, a sample or an artifact cannot be used.
        """
        __tracebackhide__ = True
        from equipoise.validators.core.precision import PRECISIONS
        from equipoise.validators.core.request import Request
        from equipoise.validators.models.samples import read_samples
        from equipoise.validators.validate import validate

        is_file = isinstance(samples, (str, Path))
        report = validate(
            Request(
                model=Path(model),
                artifacts=[Path(artifact) for artifact in artifacts],
                backends=backends,
                task=task,
                precision=PRECISIONS.get(precision, precision),
                device=device,
                samples=read_samples(Path(samples)) if is_file else _plain_samples(samples),  # type: ignore[arg-type]
                cases=cases,
                depth=self.folder is not None,
                against_golden=Path(against_golden) if against_golden else None,
            ),
            self.workers,
        )
        self._write(report)
        if problem := failure_message(report, strict=strict):
            raise AssertionError(problem)
        return report

    def _write(self, report: Report) -> None:
        if self.folder is None:
            return
        from equipoise.convert.files.output_file import write_output_file
        from equipoise.validators.report import json_report
        from equipoise.validators.report.html.page import to_html

        self.count += 1
        number = f"-{self.count}" if self.count > 1 else ""
        name = re.sub(r"[^\w.]+", "-", self.name)[-120:].strip("-") + number
        write_output_file(self.folder / f"{name}.html", to_html(report))
        write_output_file(self.folder / f"{name}.json", json_report.to_json(report))


def _plain_samples(samples: Sequence[Sample] | None) -> list[Sample] | None:
    """Returns the inputs of samples that a test gives in the form of ``samples.json``, or as plain inputs."""
    if samples is None:
        return None
    return [sample.get("inputs", sample) for sample in samples]


def failure_message(report: Report, *, strict: bool) -> str:
    """Returns why a report fails a test, with the table; empty if it does not.

    A test in which nothing was compared proves nothing, and fails.
    """
    from equipoise.validators.judgement.results import Verdict
    from equipoise.validators.report.summary import to_text

    available = [result for result in report.backends if not result.absent]
    names = [
        f"{one.label} {one.verdict.value}"
        for one in available
        if one.verdict in (Verdict.DIVERGED, Verdict.FAILED)
        or (one.verdict is Verdict.DECISION_SAFE and strict and not one.quantized)
    ]
    if not available:
        names = ["no backend was available to compare with"]
    return f"{', '.join(names)}\n\n{to_text(report)}" if names else ""
