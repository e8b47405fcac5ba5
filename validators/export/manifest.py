"""What ``artifact.json`` says of an export, put together from all that took part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from equipoise.exporters.artifact import Artifact, copy_companions, hash_file, hash_files
from equipoise.exporters.target import Target
from equipoise.validators.evaluation.context import Setup
from equipoise.validators.export.attempts import Made, Making
from equipoise.validators.judgement.results import Report, plain

if TYPE_CHECKING:
    from equipoise.validators.export.export import Export

_VERSIONS = ("python", "torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")


def account(
    wanted: Export,
    setup: Setup,
    target: Target,
    making: Making,
    made: Made,
    report: Report | None,
) -> Artifact:
    """The account; copies the companions too."""
    folder = making.folder
    names = copy_companions(setup.pytorch.path, folder, _config(setup))
    versions = setup.workers.hello("pytorch")["versions"]
    graphs = made.about.get("graphs", {})
    return Artifact(
        source=_source(setup),
        task=setup.task.name,
        class_name=setup.class_name,
        model_type=setup.model.model_type,
        target=target.name,
        program="" if graphs else made.path.relative_to(made.folder).as_posix(),
        graphs=graphs,
        exporter={
            "way": made.way,
            "how": made.how,
            "versions": {name: versions[name] for name in _VERSIONS if name in versions},
        },
        precision=setup.request.precision,
        device=setup.request.device,
        inputs=made.about.get("graph_inputs") or _inputs(making),
        outputs=made.about.get("graph_outputs") or made.about.get("outputs", {}),
        verdict=verdict_of(report),
        tried=made.tried,
        opset=made.about.get("opset"),
        settings={
            "sizes": dict(wanted.sizes),
            **{name: value for name, value in wanted.options.items() if value},
        },
        files=hash_files(folder),
        companions=names,
        notes=tuple(made.about.get("notes", ())),
    )


def verdict_of(report: Report | None) -> dict[str, Any]:
    """The judgement in figures, or that there was none."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if report is None:
        return {"judged": False, "verdict": None, "date": now, "reason": "validation was left out"}
    return {
        "judged": True,
        "verdict": report.verdict.value,
        "date": report.date,
        "precision": report.precision,
        "device": report.device,
        "tolerance": plain(report.tolerance),
        "backends": [_row(result) for result in report.backends],
    }


def _row(result: Any) -> dict[str, Any]:
    about = {key: result.about[key] for key in ("provider", "optimized") if key in result.about}
    return {
        "backend": result.label,
        "verdict": result.verdict.value,
        **about,
        **({"failure": result.failure} if result.failure else {}),
        "notes": list(result.notes),
        "cases": {case.case: _case(case) for case in result.cases},
        **({"divergence": plain(result.divergence)} if result.divergence else {}),
    }


def _case(case: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "verdict": case.verdict.value,
        "decisions": list(case.decisions),
        "flips": list(case.flips),
    }
    if case.failure:
        return {**found, "failure": case.failure}
    found["outputs"] = {
        output.name: {
            "verdict": output.verdict.value,
            "max_abs": output.error.max_abs if output.error else None,
            "noise": output.noise.max_abs if output.noise else None,
            **({"reason": output.reason} if output.reason else {}),
        }
        for output in case.outputs
    }
    return found


def _source(setup: Setup) -> dict[str, Any]:
    """The model by its folder's name and the hashes of its weights."""
    from equipoise.convert import open_checkpoint

    checkpoint = open_checkpoint(setup.model.path)
    files = sorted({path for path in checkpoint.files if path.is_file()})
    return {
        "name": setup.model.path.resolve().name,
        "layout": checkpoint.layout or "pytorch",
        "form": setup.pytorch.origin,
        "sha256": {path.name: hash_file(path) for path in files},
    }


def _inputs(making: Making) -> dict[str, Any]:
    inputs = making.inputs
    return {
        name: {"dtype": str(value.dtype), "shape": inputs.shape(name)}
        for name, value in inputs.arrays.items()
    }


def _config(setup: Setup) -> dict[str, Any] | None:
    """The config with the precision of the program, where it names another."""
    config = dict(setup.model.config)
    names = [name for name in ("dtype", "torch_dtype") if name in config]
    if all(config[name] == setup.request.precision for name in names):
        return None
    return {**config, **dict.fromkeys(names, setup.request.precision)}
