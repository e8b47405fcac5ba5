"""Builds the manifest of an artifact, ``artifact.json``, from everything that took part in the export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.companion_files import companion_notes
from equipoise.convert.checkpoints.sentence_modules import write_sentence_modules
from equipoise.convert.core.hashing import hash_file
from equipoise.exporters.artifact import Artifact, copy_companions, hash_files
from equipoise.exporters.artifact_files import TRANSFORMERS_JS, WEB_FOLDER
from equipoise.exporters.example_inputs import ExampleInputs
from equipoise.exporters.sentence.modules import split_class_name
from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.evaluation.context import EvaluationContext
from equipoise.validators.export.attempts import ExportedProgramFile, ExportJob
from equipoise.validators.export.readme import example_sizes, write_readme
from equipoise.validators.export.web_companions import complete_for_transformers_js
from equipoise.validators.judgement.results import (
    BackendResult,
    CaseMetrics,
    Report,
    to_json_value,
)

_ALWAYS_REPORTED = ("python", "torch", "transformers", "numpy")
"""Libraries that take part in every export; a target names the others."""


def build_manifest(
    sizes: Mapping[str, int],
    job: ExportJob,
    program: ExportedProgramFile,
    report: Report | None,
    text_program: Mapping[str, Any],
) -> Artifact:
    """Returns the manifest; copies the companions into the artifact first.

    Args:
        sizes: Axes that the user fixed.
        job: The export.
        program: The program that was kept.
        report: Its validation; None if it was not validated.
        text_program: What :func:`add_text_program` says of the program that takes texts; empty if there is none.
    """
    context, folder = job.context, job.folder
    companions = copy_companions(context.pytorch.path, folder, _config_at_precision(context))
    companions = (*companions, *write_sentence_modules(context.pytorch.path, folder))
    notes = [*program.about.get("notes", ()), *companion_notes(context.pytorch.path)]
    is_web = job.options.get("layout") == TRANSFORMERS_JS
    if is_web:
        added, web_notes = complete_for_transformers_js(context.model, folder)
        companions, notes = (*companions, *added), [*notes, *web_notes]
    graphs = {
        role: {**graph, "file": f"{WEB_FOLDER}/{graph['file']}" if is_web else graph["file"]}
        for role, graph in program.about.get("graphs", {}).items()
    }
    artifact = Artifact(
        source=_source_section(context),
        task=context.task.name,
        class_name=split_class_name(context.class_name)[0],
        model_type=context.model.model_type,
        target=job.target.name,
        program="" if graphs else program.path.relative_to(program.folder).as_posix(),
        graphs=graphs,
        exporter={
            "way": program.way,
            "how": program.how,
            "versions": _versions(job),
        },
        precision=context.request.precision,
        device=context.request.device,
        inputs=program.about.get("graph_inputs") or _example_signature(job.inputs, program.about),
        outputs=program.about.get("graph_outputs") or program.about.get("outputs", {}),
        verdict=verdict_section(report),
        tried=program.tried,
        opset=program.about.get("opset"),
        settings={
            "sizes": dict(sizes),
            **({"graph": "sentence"} if split_class_name(context.class_name)[1] else {}),
            **{name: value for name, value in job.options.items() if value},
        },
        companions=companions,
        notes=tuple(notes),
        text_program=text_program,
    )
    write_readme(artifact, folder, example_sizes(job.inputs.sizes))
    return replace(artifact, files=hash_files(folder))


def _versions(job: ExportJob) -> dict[str, str]:
    """Returns the versions of Python and of the libraries that made the program."""
    found = job.context.pool.hello("pytorch")["versions"]
    names = dict.fromkeys((*_ALWAYS_REPORTED, *job.target.needs))
    return {name: found[name] for name in names if name in found}


def verdict_section(report: Report | None) -> dict[str, Any]:
    """Returns the verdict with its figures, or a section that says that the program was not validated."""
    if report is None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"judged": False, "verdict": None, "date": now, "reason": "validation was left out"}
    return {
        "judged": True,
        "verdict": report.verdict.value,
        "date": report.date,
        "precision": report.precision,
        "device": report.device,
        "tolerance": to_json_value(report.tolerance),
        "backends": [_backend_section(result) for result in report.backends],
    }


def _backend_section(result: BackendResult) -> dict[str, Any]:
    about = {key: result.about[key] for key in ("provider", "optimized") if key in result.about}
    return {
        "backend": result.label,
        "verdict": result.verdict.value,
        **about,
        **({"failure": result.failure} if result.failure else {}),
        "notes": list(result.notes),
        "cases": {case.case: _case_section(case) for case in result.cases},
        **({"audit": _audit_section(result.audit)} if result.audit else {}),
        **({"divergence": to_json_value(result.divergence)} if result.divergence else {}),
    }


def _audit_section(audit: AuditReport) -> dict[str, Any]:
    """Returns how many weights are accounted for, and what is wrong with the others."""
    if audit.failure:
        return {"failure": audit.failure}
    return {
        "traced": len(audit.traced),
        "explained": len(audit.explained),
        "unknown": [one.name for one in audit.unknown],
        "missing": list(audit.missing),
        "findings": list(audit.findings),
    }


def _case_section(case: CaseMetrics) -> dict[str, Any]:
    section: dict[str, Any] = {
        "verdict": case.verdict.value,
        "decisions": list(case.decisions),
        "flips": list(case.flips),
    }
    if case.failure:
        return {**section, "failure": case.failure}
    section["outputs"] = {
        output.name: {
            "verdict": output.verdict.value,
            "max_abs": output.error.max_abs if output.error else None,
            "noise": output.noise.max_abs if output.noise else None,
            **({"reason": output.reason} if output.reason else {}),
        }
        for output in case.outputs
    }
    return section


def _source_section(context: EvaluationContext) -> dict[str, Any]:
    """Returns the name of the model's folder and the hashes of its weights."""
    checkpoint = open_checkpoint(context.model.path)
    files = sorted({path for path in checkpoint.files if path.is_file()})
    return {
        "name": context.model.path.resolve().name,
        "layout": checkpoint.layout or "pytorch",
        "form": context.pytorch.origin,
        "sha256": {path.name: hash_file(path) for path in files},
    }


def _example_signature(inputs: ExampleInputs, about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns dtype and shape of the inputs in the order in which the program takes them."""
    return {
        name: {"dtype": str(inputs.arrays[name].dtype), "shape": inputs.shape(name)}
        for name in about.get("inputs", inputs.arrays)
    }


def _config_at_precision(context: EvaluationContext) -> dict[str, Any] | None:
    """Returns the config with the precision of the program, or None if it names no other one."""
    config = dict(context.model.config)
    precision = context.request.precision
    names = [name for name in ("dtype", "torch_dtype") if name in config]
    if all(config[name] == precision for name in names):
        return None
    return {**config, **dict.fromkeys(names, precision)}
