"""What a validation found, as plain frozen data that every report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.judgement.verdict import CaseFigures, Verdict, worst


@dataclass(frozen=True)
class Depth:
    """The error of one module on the way through the model.

    Attributes:
        path: PyTorch's module path.
        error: Relative error (rms over the truth's) of the backend.
        noise: The same of the reference.
    """

    path: str
    error: float
    noise: float


@dataclass(frozen=True)
class Divergence:
    """The first module whose output is beyond noise although its inputs are not.

    Attributes:
        case: The case it was found in.
        module: PyTorch's module path.
        kind: Its class.
        there: The same module as the backend names it.
        error: Relative error of its output.
        noise: Relative noise of the reference there.
        inputs: Relative error of what went into it, by the module that gave it; empty where not known.
        note: What else is known, e.g. that inputs differ already.
        repro: Folder with a minimal script, or empty.
    """

    case: str
    module: str
    kind: str
    there: str
    error: float
    noise: float
    inputs: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    repro: str = ""


@dataclass(frozen=True)
class BackendResult:
    """One backend's part.

    Attributes:
        backend: Its name.
        label: How reports call it: the backend, and the artifact where several are of one backend.
        origin: How it got its form of the model.
        source: What it loaded.
        about: What it really ran on: device, precision, threads, switches.
        versions: Of the libraries in its environment.
        cases: The figures.
        failure: Why there are none or not all: a crash, a time limit, a load that failed.
        absent: Why it was not run at all though it was not asked for by name.
        notes: Remarks on it: keys that its loader missed, inputs that it does not take.
        depth: Error along the depth of the model.
        divergence: Where it begins, when it diverged.
        seconds: All its passes together.
        peak_bytes: The most memory it held.
        answers: What a person reads off the samples of the first case.
    """

    backend: str
    label: str
    origin: str = ""
    source: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[CaseFigures, ...] = ()
    failure: str = ""
    absent: str = ""
    notes: tuple[str, ...] = ()
    depth: tuple[Depth, ...] = ()
    divergence: Divergence | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    answers: tuple[Any, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the cases."""
        if self.failure:
            return Verdict.FAILED
        return worst([case.verdict for case in self.cases])


@dataclass(frozen=True)
class Report:
    """A validation.

    Attributes:
        model: The model's folder.
        model_type: As in its config.
        class_name: PyTorch's class.
        task: The task's name.
        precision: The precision under test.
        device: The device under test.
        tolerance: What was allowed.
        date: When, ISO 8601 in UTC.
        machine: Processor, cores, system, versions here.
        samples: The samples as plain data.
        reference: PyTorch at the precision under test, whose noise is the measure.
        backends: The others, in the order asked for.
        command: The command line that does it again.
    """

    model: str
    model_type: str
    class_name: str
    task: str
    precision: str
    device: str
    tolerance: Tolerance
    date: str
    machine: Mapping[str, Any]
    samples: tuple[Any, ...]
    reference: BackendResult
    backends: tuple[BackendResult, ...]
    command: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst of the backends that were run; the reference alone is identical to itself."""
        ran = [result.verdict for result in self.backends if not result.absent]
        return worst(ran) if ran else Verdict.IDENTICAL


def plain(value: Any) -> Any:
    """Frozen data as JSON values; verdicts, also those that are computed, by their text.

    >>> plain(Verdict.WITHIN_NOISE)
    'within noise'
    """
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        found = {one.name: plain(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, (CaseFigures, BackendResult, Report)):
            found["verdict"] = value.verdict.value
        return found
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
