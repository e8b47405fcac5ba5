"""In programs of every format, planted faults that no sample touches are found and named, and clean exports raise no alarm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("torch")

from audited import Arrays, patch_bytes, references
from task_models import ROOT

from equipoise.convert import open_checkpoint
from equipoise.exporters.artifact import read_manifest
from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.audit.readers import read_program
from equipoise.validators.core.request import Request
from equipoise.validators.evaluation.context import prepare_context
from equipoise.validators.export.export import ExportRequest, export_model
from equipoise.validators.models.sources import resolve_artifact
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.tasks.base import infer_task

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("audit"),
]

TASKS = ROOT / "tasks"
BERT = TASKS / "text-classification"
LAYER = "bert.encoder.layer.0."
QUERY, KEY = (f"{LAYER}attention.self.{name}.weight" for name in ("query", "key"))
TARGETS = ("onnx", "saved-model", "stablehlo", "tflite", "torch-export", "torchscript")
Export = Callable[..., Path]


@pytest.fixture(scope="session")
def export(
    worker_pool: WorkerPool, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Returns a function that exports a model of ``fixtures/tasks`` once and returns the artifact."""
    done: dict[tuple[object, ...], Path] = {}

    def make(model: str, target: str, precision: str = "float32", **options: object) -> Path:
        key = (model, target, precision, *options.items())
        if key not in done:
            output = tmp_path_factory.mktemp("audited") / "artifact"
            request = Request(TASKS / model, precision=precision)
            export_model(
                ExportRequest(request, output, target, judged=False, options=options), worker_pool
            )
            done[key] = output
        return done[key]

    return make


def audit(artifact: Path, model: Path = BERT) -> AuditReport:
    program = resolve_artifact(artifact)
    precision = read_manifest(artifact)["precision"]
    return Auditor(open_checkpoint(model), precision).audit(program.backend, program.path)


@dataclass(frozen=True)
class Fault:
    """A change of one tensor, and how it is described."""

    tensor: str
    change: Callable[[np.ndarray], None]  # type: ignore[type-arg]
    problem: str


def zero(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[80:] = 0


def swap(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[[85, 87]] = w[[87, 85]]


def nan(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[90, 3] = np.nan


def bf16(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[...] = w.astype(ml_dtypes.bfloat16)


def shift(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[0] += 1e-3


def zero_type(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[1] = 0


WORDS = "bert.embeddings.word_embeddings.weight"
FAULTS = {
    "zeroed rows": Fault(WORDS, zero, "rows 80-92 are zero"),
    "swapped rows": Fault(WORDS, swap, "rows 85 and 87 are swapped"),
    "NaN": Fault(WORDS, nan, "row 90 is not finite"),
    "token type 1": Fault(
        "bert.embeddings.token_type_embeddings.weight", zero_type, "row 1 is zero"
    ),
    "bf16": Fault(
        f"{LAYER}intermediate.dense.weight", bf16, "864 of 864 elements are rounded to bfloat16"
    ),
    "bias": Fault("classifier.bias", shift, "1 of 2 elements differ by at most 0.001 (element 0)"),
}


def stored_form(artifact: Path, tensor: str) -> tuple[np.ndarray, bool]:  # type: ignore[type-arg]
    """Returns a tensor as a program stores it, and whether that is transposed."""
    report, program = audit(artifact), resolve_artifact(artifact)
    (entry,) = [one for one in (*report.traced, *report.explained) if one.sources == (tensor,)]
    weights = read_program(program.backend, program.path).weights
    (weight,) = [one for one in weights if one.name == entry.name]
    return weight.ref.read(), entry.how == "transposed"


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_planted_fault_is_named(export: Export, target: str, name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    artifact = shutil.copytree(export("text-classification", target), tmp_path / "artifact")
    stored, turned = stored_form(artifact, fault.tensor)
    wrong = stored.copy()
    fault.change(wrong.T if turned else wrong)
    patch_bytes(artifact, {stored.tobytes(): wrong.tobytes()})
    report = audit(artifact)
    (found,) = report.not_accounted
    assert (found.problem, found.nearest) == (fault.problem, fault.tensor)
    assert any(found.name in text for text in report.findings)


@pytest.mark.parametrize("target", TARGETS)
def test_query_and_key_swapped(export: Export, target: str, tmp_path: Path) -> None:
    artifact = shutil.copytree(export("text-classification", target), tmp_path / "artifact")
    (query, _), (key, _) = (stored_form(artifact, name) for name in (QUERY, KEY))
    patch_bytes(artifact, {query.tobytes(): key.tobytes(), key.tobytes(): query.tobytes()})
    report = audit(artifact)
    assert {one.nearest for one in report.not_accounted} == {QUERY, KEY}
    assert all(
        "holds the values of" in one.problem or "the bias of another layer" in one.problem
        for one in report.not_accounted
    )


@pytest.mark.parametrize("target", TARGETS)
def test_weights_of_another_seed(export: Export, target: str) -> None:
    rng = np.random.default_rng(0)
    checkpoint = open_checkpoint(BERT)
    other: Arrays = {
        name: rng.normal(0, 0.05, ref.shape).astype(np.float32)
        for name, ref in checkpoint.items()
        if ref.dtype.kind == "f"
    }
    program = resolve_artifact(export("text-classification", target))
    report = Auditor(references(other), "float32").audit(program.backend, program.path)
    large = [ref for ref in checkpoint.values() if ref.dtype.kind == "f" and ref.size > 16]
    assert len(report.not_accounted) >= len(large)
    assert report.traced == ()


CLEAN: list[tuple[str, str, str, dict[str, object]]] = [
    *((name, "onnx", "float32", {}) for name in (
        "image-classification-resnet", "object-detection", "visual-question-answering", "zero-shot-image-classification",
    )),
    *((name, "torchscript", "float32", {}) for name in (
        "audio-classification", "automatic-speech-recognition-seq2seq", "text-generation", "translation", "video-classification",
    )),
    *(("text-classification", target, "float32", {}) for target in TARGETS),
    *((name, "onnx", "float32", {"optimize": True}) for name in ("text-classification", "image-classification-resnet")),
    *((name, "onnx", "float32", {"quantize": "int8-dynamic"}) for name in (
        "text-classification", "image-classification-resnet", "audio-classification",
    )),
    *(("text-classification", target, "float16", {}) for target in ("onnx", "torchscript", "tflite")),
    ("image-classification-resnet", "onnx", "float16", {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "target", "precision", "options"), CLEAN)
def test_a_clean_export_raises_no_alarm(
    export: Export, model: str, target: str, precision: str, options: dict[str, object]
) -> None:
    report = audit(export(model, target, precision, **options), TASKS / model)
    assert report.failure == ""
    assert report.findings == ()
    assert report.traced or report.explained


def test_validate_and_its_reports(
    export: Export, cli: Callable[..., object], tmp_path: Path
) -> None:
    """Rows of an embedding that no sample uses: the outputs are those of the model, and the verdict is diverged."""
    artifact = shutil.copytree(export("text-classification", "onnx"), tmp_path / "artifact")
    unused = next(iter(unused_rows()))
    stored, _ = stored_form(artifact, WORDS)
    wrong = stored.copy()
    wrong[unused] = 0
    patch_bytes(artifact, {stored.tobytes(): wrong.tobytes()})
    outcome = cli(
        "validate", BERT, artifact, "--backends", "onnx", "--cases", "single",
        "--json", "-", "--junit", tmp_path / "junit.xml", "--report", tmp_path / "page.html",
    )  # fmt: skip
    assert outcome.code == 1  # type: ignore[attr-defined]
    (result,) = outcome.data["backends"]  # type: ignore[attr-defined]
    assert {case["verdict"] for case in result["cases"]} <= {"identical", "within noise"}
    assert result["verdict"] == "diverged"
    (found,) = result["audit"]["not_accounted"]
    assert found["problem"] == f"row {unused} is zero"
    assert found["nearest"] == WORDS
    assert 'name="weights"' in (tmp_path / "junit.xml").read_text()
    for name in ("junit.xml", "page.html"):
        assert f"row {unused} is zero" in (tmp_path / name).read_text()


def unused_rows() -> Iterator[int]:
    """Yields the rows of BERT's embedding that no case of its task uses."""
    with WorkerPool() as pool:
        context = prepare_context(Request(BERT), pool, Path("scratch"))
    assert context.task is infer_task(context.model)
    used = {int(one) for batch in context.batches for one in np.unique(batch.arrays["input_ids"])}
    rows = open_checkpoint(BERT)[WORDS].shape[0]
    yield from (row for row in range(1, rows) if row not in used)


def test_export_refuses_a_program_with_other_weights(
    worker_pool: WorkerPool, tmp_path: Path
) -> None:
    """A patch of the exporter zeroes a row that no sample uses: no strategy passes, and artifact.json says why."""
    unused = next(iter(unused_rows()))
    patch = tmp_path / "patch.py"
    patch.write_text(
        f"def patch(model):\n    model.bert.embeddings.word_embeddings.weight.data[{unused}] = 0\n"
    )
    request = Request(BERT, cases=["single"], divergence=False)
    found = export_model(
        ExportRequest(request, tmp_path / "out", "torchscript", patch=str(patch)), worker_pool
    )
    assert found.verdict is not None
    assert found.verdict.value == "diverged"
    (backend,) = read_manifest(tmp_path / "out")["verdict"]["backends"]
    assert backend["audit"]["findings"] == [
        f"weight model.{WORDS} (float32 93x24): row {unused} is zero"
    ]
