"""Hand-made reports with everything that a report can contain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from equipoise.validators.core.tolerance import DEFAULTS
from equipoise.validators.core.types import ErrorMetrics
from equipoise.validators.judgement.results import (
    HISTOGRAM_EDGES,
    BackendResult,
    CaseMetrics,
    ComputedPrecision,
    Divergence,
    ModuleError,
    OutputMetrics,
    Report,
    Verdict,
)

NOISE = ErrorMetrics(6, 2e-7, 1e-7, 1e-6, 3.0, 1.0, 2.0, 0)
HOSTILE = "</style><script>alert('x')</script>\"'&<img src=x onerror=alert(1)>\x00\x1b[31m\udcff"


def histogram(exponent: int, count: int = 6) -> tuple[int, ...]:
    """Returns a histogram with all errors in one power of ten."""
    return tuple(count if edge == exponent else 0 for edge in HISTOGRAM_EDGES)


def output(
    verdict: Verdict = Verdict.WITHIN_NOISE, error: ErrorMetrics = NOISE, **more: Any
) -> OutputMetrics:
    """Returns an output whose error equals the noise by default."""
    given: dict[str, Any] = {
        "reason": "",
        "noise": NOISE,
        "ratio": 1.0,
        "floor": 1e-7,
        "kl": 1e-13,
        "margin": 0.25,
    }
    return OutputMetrics(
        name="logits", verdict=verdict, error=error, **{**given, "errors": histogram(-7), **more}
    )


def case(name: str = "single", *outputs: OutputMetrics, **more: Any) -> CaseMetrics:
    """Returns a case of two forward passes with two decisions."""
    given: dict[str, Any] = {"decisions": (2, 2), "seconds": (0.004, 0.002)}
    return CaseMetrics(name, outputs or (output(),), **{**given, **more})


def backend(label: str = "flax", **more: Any) -> BackendResult:
    """Returns a backend within noise."""
    given: dict[str, Any] = {
        "origin": "converted from pytorch",
        "source": "/models/flax",
        "about": {"device": "cpu", "threads": 2, "tf32": False, "accepts": ["input_ids"]},
        "versions": {"flax": "0.12.8"},
        "cases": (case("single"), case("batch")),
        "seconds": 0.012,
        "peak_bytes": 758_000_000,
        "answers": ({"label": "POSITIVE", "score": 0.9994},),
    }
    return BackendResult(label, label, **{**given, **more})


def diverged_backend() -> BackendResult:
    """Returns a backend with all details of a divergence."""
    far = ErrorMetrics(6, 4.9, 4.3, 1.2, 1.6e7, -0.98, 2.0, 0)
    bad = output(Verdict.DIVERGED, far, reason="rms error 4.3", ratio=4.3e7, errors=histogram(0))
    return backend(
        "pytorch (faulty)",
        cases=(case("single", bad, decisions=(2, 1), flips=("label: A -> B",)), case("batch", bad)),
        answers=({"label": "NEGATIVE", "score": 0.7765},),
        notes=("it does not take token_type_ids",),
        depth=(
            ModuleError("bert.embeddings", 0.0, 0.0),
            ModuleError("bert.encoder.layer.0.attention", 1e-7, 1e-7),
            ModuleError("bert.encoder.layer.1.attention", 1.3, 1e-7),
            ModuleError("classifier", float("inf"), 2e-7),
        ),
        divergence=Divergence(
            case="single",
            module="bert.encoder.layer.1.attention",
            kind="BertAttention",
            there="layer_1/attention",
            error=1.3,
            noise=1e-7,
            inputs={"bert.encoder.layer.0": 1.1e-7},
            repro="repro/faulty",
        ),
    )


def rounded_backend() -> BackendResult:
    """Returns a backend that computes in a lower precision than it declares."""
    far = replace(NOISE, rms=2e-4, max_abs=6e-4)
    bad = output(Verdict.DECISION_SAFE, far, reason="rms error 2e-4", ratio=2000.0)
    return backend(
        "onnx (rounded)",
        cases=(case("single", bad),),
        computed=ComputedPrecision("float32", "TensorFloat-32", 1.07, 0.98),
        divergence=Divergence(
            *("single", "h.0", "Block", "h.0", 2e-4, 1e-7),
            after="h.0.ln",
            before="h.0.attn",
            step=2,
        ),
    )


def failed_backend() -> BackendResult:
    """Returns a backend that crashed in its second case."""
    text = "the worker crashed during 'run' (signal 11)\nTraceback:\n  somewhere"
    cases = (case("single"), CaseMetrics("batch", failure=text))
    return backend("crash", cases=cases, failure=f"batch: {text}", answers=())


def absent_backend() -> BackendResult:
    """Returns a backend that is not installed."""
    return BackendResult("tensorflow", "tensorflow", absent="it has no environment")


def safe_backend() -> BackendResult:
    """Returns a backend that is beyond noise with unchanged decisions."""
    far = replace(NOISE, rms=2e-6, max_abs=4e-6)
    found = output(Verdict.DECISION_SAFE, far, reason="rms error 2e-6", ratio=20.0)
    return backend("onnx", cases=(case("single", found),))


def report(*backends: BackendResult, **more: Any) -> Report:
    """Returns a report about some backends."""
    reference = backend("pytorch (reference)", origin="as given", source="/models/bert")
    itself = tuple(replace(one, outputs=(output(Verdict.IDENTICAL),)) for one in reference.cases)
    given: dict[str, Any] = {
        "model": "/models/bert",
        "model_type": "bert",
        "class_name": "BertForSequenceClassification",
        "task": "text-classification",
        "precision": "float32",
        "device": "cpu",
        "tolerance": DEFAULTS["float32"],
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"system": "Linux", "cores": 2, "versions": {"numpy": "2.4"}},
        "samples": ({"text": "The film was very good."},),
        "reference": replace(reference, cases=itself),
        "command": "equipoise validate /models/bert",
    }
    return Report(backends=backends, **{**given, **more})


def full_report() -> Report:
    """Returns a report with one backend of each kind."""
    return report(diverged_backend(), backend(), safe_backend(), failed_backend(), absent_backend())


def hostile_report() -> Report:
    """Returns a report in which every text is an injection attack."""
    bad = output(Verdict.DIVERGED, reason=HOSTILE)
    one = backend(
        HOSTILE,
        origin=HOSTILE,
        source=HOSTILE,
        about={HOSTILE: HOSTILE, "implementation": HOSTILE},
        versions={HOSTILE: HOSTILE},
        cases=(
            case(HOSTILE, replace(bad, name=HOSTILE), flips=(HOSTILE,)),
            CaseMetrics(HOSTILE, failure=HOSTILE),
        ),
        failure=f"{HOSTILE}\n{HOSTILE}",
        notes=(HOSTILE,),
        depth=(ModuleError(HOSTILE, 1.0, 0.1),),
        divergence=Divergence(
            *[HOSTILE] * 4, 1.0, 0.1, inputs={HOSTILE: 0.5}, note=HOSTILE, repro=HOSTILE
        ),
        answers=({HOSTILE: HOSTILE},),
    )
    names = ("model", "model_type", "class_name", "task", "device", "date", "command")
    texts: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    missing = BackendResult(HOSTILE, HOSTILE, absent=HOSTILE)
    return report(one, missing, samples=({HOSTILE: HOSTILE},), machine={HOSTILE: HOSTILE}, **texts)
