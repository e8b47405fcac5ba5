"""Frozen data of a validation: errors, verdicts, results of backends, the report. All reports are made from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.core.types import ErrorMetrics

HISTOGRAM_EDGES = tuple(range(-12, 5))
"""Edges of the error histogram as powers of ten; smaller errors fall into the first bin."""


WHOLE_MODEL = "(the whole model)"
"""Name of the outermost module in reports; its path is empty."""


class Verdict(Enum):
    """What can be said about a backend, best first; the last two say that nothing was judged."""

    IDENTICAL = "identical"
    WITHIN_NOISE = "within noise"
    DECISION_SAFE = "decision-safe"
    DIVERGED = "diverged"
    FAILED = "failed"
    ABSENT = "absent"
    NOTHING_COMPARED = "nothing compared"

    @property
    def rank(self) -> int:
        """Position in the order of verdicts; 0 is the best."""
        return list(Verdict).index(self)


PASSING_VERDICTS = (Verdict.IDENTICAL, Verdict.WITHIN_NOISE)
"""Verdicts of a correct program at one precision."""


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns the verdict on several things together; nothing at all counts as failed."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.FAILED)


@dataclass(frozen=True)
class OutputMetrics:
    """Metrics of one output in one case.

    Attributes:
        name: Name of the output.
        verdict: The verdict on this output alone.
        reason: Why the verdict is not better.
        error: Distance of the backend from the truth.
        noise: Distance of the reference from the truth.
        ratio: ``error.rms`` over ``floor``.
        floor: The noise that the error is compared with, as root mean square: the largest of several draws, and at least
            some roundings of the output's scale.
        kl: Kullback-Leibler divergence from the truth, for logits.
        margin: The smallest margin of the decisions read off this output.
        errors: Histogram of log10 of the absolute errors, with the edges :data:`HISTOGRAM_EDGES`.
    """

    name: str
    verdict: Verdict
    reason: str
    error: ErrorMetrics | None = None
    noise: ErrorMetrics | None = None
    ratio: float | None = None
    kl: float | None = None
    margin: float | None = None
    errors: tuple[int, ...] = ()
    floor: float | None = None


@dataclass(frozen=True)
class CaseMetrics:
    """Metrics of one case on one backend.

    Attributes:
        case: Name of the case.
        outputs: Metrics of every output of the reference.
        decisions: Number of decisions of the reference, and how many of them the backend made too.
        flips: Decisions that differ: ``label: POSITIVE -> NEGATIVE``.
        seconds: Duration of each forward pass of the backend.
        failure: What went wrong if there are no metrics.
    """

    case: str
    outputs: tuple[OutputMetrics, ...] = ()
    decisions: tuple[int, int] = (0, 0)
    flips: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    failure: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the outputs; beyond noise, a flipped decision is a divergence whatever the metrics."""
        if self.failure:
            return Verdict.FAILED
        found = worst_verdict([output.verdict for output in self.outputs])
        passes = found in PASSING_VERDICTS
        return Verdict.DIVERGED if self.flips and not passes else found


@dataclass(frozen=True)
class ModuleError:
    """The error of one module's output.

    Attributes:
        path: PyTorch's module path.
        error: Relative error of the backend: rms over the truth's rms.
        noise: Relative error of the reference.
        ratio: The error over the noise that it is compared with; None if both are zero.
        beyond: Whether the error is beyond noise.
    """

    path: str
    error: float
    noise: float
    ratio: float | None = None
    beyond: bool = False


@dataclass(frozen=True)
class Divergence:
    """Where the first values beyond noise are computed: in a module, or between two modules.

    Attributes:
        case: Name of the case.
        module: PyTorch's path of the smallest module that is known to contain the place.
        kind: The module's class.
        there: Path of the same module in the backend; empty if it has no such module.
        error: Relative error of the first output beyond noise.
        noise: Relative error of the reference's there.
        inputs: Relative error of the inputs of ``module`` that are within noise, by the module that computed them, or
            by their name.
        note: What else is known, such as modules that could not be compared.
        repro: Folder with a minimal script, or empty.
        after: Where the place is a range: the last module within noise before it. Empty if it is ``module`` itself.
        before: The first module after it whose input or output is beyond noise; empty if only the model's output is.
        step: Number of the forward pass in the loop of a generated text, from 1; 0 if there is only one pass.
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
    after: str = ""
    before: str = ""
    step: int = 0


@dataclass(frozen=True)
class ComputedPrecision:
    """A precision that a program computes in, although it declares another one.

    Attributes:
        declared: The precision that it declares.
        computed: The precision whose error it has: ``bfloat16``, ``float16`` or ``TensorFloat-32``.
        size: Its error over PyTorch's at that precision; the median over the modules beyond noise.
        cosine: Cosine of its error and PyTorch's at that precision, where the error begins; of independent errors near 0.
    """

    declared: str
    computed: str
    size: float
    cosine: float


@dataclass(frozen=True)
class BackendResult:
    """The result of one backend.

    Attributes:
        backend: Name of the backend.
        label: Name in reports: the backend, with the artifact where several have the same backend.
        origin: How the backend's source came about.
        source: What the backend loaded.
        about: What it really ran on: device, precision, threads, switches.
        versions: Versions of the libraries in its environment.
        cases: Metrics of the cases.
        failure: Why some or all cases have no metrics: a crash, a time limit, a failed load.
        absent: Why the backend was not run, if it was not requested by name.
        quantized: What quantized the program's weights, e.g. ``int8-dynamic``; empty for floats. Its tolerance is that of int8,
            and *decision-safe* passes.
        companions: What differs in the files beside the program so that an answer changes; anything here is a divergence.
        notes: Remarks: keys that its loader missed, inputs that it does not accept.
        depth: Error of every module in order.
        divergence: The place of the first values beyond noise, if there are any.
        computed: The precision that it computes in, where that explains why it is beyond noise.
        seconds: Duration of all forward passes together.
        peak_bytes: Peak memory.
        answers: Decoded results of the first case.
        audit: What became of each weight; None if what the backend loads is the source itself.
    """

    backend: str
    label: str
    origin: str = ""
    source: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[CaseMetrics, ...] = ()
    failure: str = ""
    absent: str = ""
    quantized: str = ""
    companions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    depth: tuple[ModuleError, ...] = ()
    divergence: Divergence | None = None
    computed: ComputedPrecision | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    answers: tuple[Any, ...] = ()
    audit: AuditReport | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the cases, *diverged* before *failed*; a weight that is not the source's is a divergence."""
        if self.absent:
            return Verdict.ABSENT
        if self.audit is not None and self.audit.findings:
            return Verdict.DIVERGED
        verdicts = [case.verdict for case in self.cases]
        if Verdict.DIVERGED in verdicts:
            return Verdict.DIVERGED  # that other cases failed does not excuse it
        if self.failure:
            return Verdict.FAILED
        found = worst_verdict(verdicts)
        return worst_verdict([found, Verdict.DIVERGED]) if self.companions else found


@dataclass(frozen=True)
class Report:
    """The report of a validation.

    Attributes:
        model: The model's folder.
        model_type: The model type in its config.
        class_name: PyTorch's class.
        task: Name of the task.
        precision: The precision under test.
        device: The device under test.
        tolerance: The tolerance that was used.
        date: Date and time, ISO 8601 in UTC.
        machine: Processor, cores, system, and versions in this process.
        samples: The samples as plain data.
        reference: PyTorch at the precision under test; its error is the noise.
        backends: Results of the backends in the order of the request.
        command: The command line that repeats the validation.
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
    def worst_first(self) -> tuple[tuple[int, BackendResult], ...]:
        """The backends with their positions, the worst first and those that were not run last; else in the order of the request."""
        return tuple(
            sorted(
                enumerate(self.backends),
                key=lambda one: (bool(one[1].absent), -one[1].verdict.rank),
            )
        )

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the backends that were run."""
        ran = [result.verdict for result in self.backends if not result.absent]
        return worst_verdict(ran) if ran else Verdict.NOTHING_COMPARED


def to_json_value(value: Any) -> Any:
    """Converts frozen data to JSON values; enums become their values, and computed verdicts are included.

    >>> to_json_value(Verdict.WITHIN_NOISE)
    'within noise'
    """
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        converted = {one.name: to_json_value(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, (CaseMetrics, BackendResult, Report)):
            converted["verdict"] = value.verdict.value
        if isinstance(value, AuditReport):
            converted["findings"] = list(value.findings)
        return converted
    if isinstance(value, Mapping):
        return {str(key): to_json_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(one) for one in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
