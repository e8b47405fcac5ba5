"""Results of jobs: a status, what the command said, and what was measured."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.fleet.core.commands import COMMANDS
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.statuses import Status

_STATUS_OF_EXIT_CODE: Mapping[int, Status] = {0: "ok", 1: "difference", 2: "refused"}
REPORT = "report.json"
"""The file that `validate` writes in the folder of its job."""
_MOST_CHARACTERS = 2000
_MOST_LINES = 12


def command_line(job: Job, source: str, output: Path) -> list[str]:
    """Returns the command line of a job, which writes into a folder and prints JSON.

    ``--force`` replaces only what an interrupted run of the same job wrote. A command of another worker gets source, folder and
    arguments.

    Args:
        job: The job.
        source: Where its source lies here.
        output: The folder.
    """
    if job.command == "validate":
        return ["validate", source, *job.arguments, "--json", str(output / REPORT)]
    own = ["--force", "--json"] if job.command in COMMANDS else []
    return [job.command, source, str(output), *job.arguments, *own]


def result_of(
    job: Job, output: Path, store: Path, reply: Mapping[str, Any], attempts: int
) -> dict[str, Any]:
    """Returns the result of a job whose command ended.

    Args:
        job: The job.
        output: The folder that it wrote.
        store: The folder of all results; paths in the result are relative to it.
        reply: What :meth:`WorkerProcess.run` returned.
        attempts: How often the job was begun.

    Returns:
        ``key`` and the job; ``status``; ``exit_code``; ``output``, what the command wrote; ``summary``, the verdict and the like, or
        all that a command of another worker printed;
        ``error``, what it said where it refused or failed; ``run``, what differs from run to run.
    """
    status = _STATUS_OF_EXIT_CODE.get(reply["exit_code"], "failed")
    document = _document(job, output, reply["stdout"])
    is_error = "error" in document and status in ("refused", "failed")
    error = (
        _error(document, reply["stderr"])
        if status in ("refused", "failed") and (is_error or not document)
        else None
    )
    return {
        **_head(job, status),
        "exit_code": reply["exit_code"],
        "output": output.relative_to(store).as_posix() if output.exists() else None,
        "summary": {} if is_error else _SUMMARIES.get(job.command, dict)(document),
        "error": error,
        "run": _measured(reply["seconds"], attempts, peak_bytes=reply["peak_bytes"]),
    }


def result_of_error(
    job: Job, status: Status, error: Mapping[str, Any], seconds: float, attempts: int
) -> dict[str, Any]:
    """Returns the result of a job whose command gave no answer: its source could not be fetched, or every worker died."""
    return {
        **_head(job, status),
        "exit_code": None,
        "output": None,
        "summary": {},
        "error": dict(error),
        "run": _measured(seconds, attempts, peak_bytes=None),
    }


def death(cause: str, last_words: str) -> dict[str, Any]:
    """Returns the error of a job on which every worker died, or which took too long."""
    return {
        "error": "WorkerError",
        "message": f"the worker ended: {cause}",
        "last_words": last_words,
    }


def _head(job: Job, status: Status) -> dict[str, Any]:
    return {"version": 1, "key": job.key, "name": job.name, **job.as_dict(), "status": status}


def _measured(seconds: float, attempts: int, *, peak_bytes: int | None) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "peak_bytes": peak_bytes,
        "attempts": attempts,
        "host": socket.gethostname(),
        "finished": round(time.time(), 3),
    }


def _document(job: Job, output: Path, stdout: str) -> dict[str, Any]:
    """Returns the JSON that a command wrote; empty if it wrote none."""
    path = output / REPORT
    text = (
        path.read_text(encoding="utf-8") if job.command == "validate" and path.is_file() else stdout
    )
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(document: Mapping[str, Any], stderr: str) -> dict[str, Any]:
    if document:
        return dict(document)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stderr.strip().splitlines()]
    first = next((index for index, line in enumerate(lines) if line.startswith("error:")), None)
    if first is None:
        return {"error": "", "message": "\n".join(lines[-_MOST_LINES:])[-_MOST_CHARACTERS:]}
    text = "\n".join(lines[first:]).removeprefix("error: ")
    return {"error": "", "message": text[:_MOST_CHARACTERS]}


def _of_conversion(manifest: Mapping[str, Any]) -> dict[str, Any]:
    model_type, class_name = manifest.get("architecture") or (None, None)
    route = manifest.get("route") or [None]
    return {
        "verdict": "converted" if manifest else None,
        "model_type": model_type,
        "class_name": class_name,
        "layout": route[-1],
        "bytes": manifest.get("bytes"),
    }


def _of_validation(report: Mapping[str, Any]) -> dict[str, Any]:
    backends = {
        str(one.get("label") or one.get("backend")): one.get("verdict")
        for one in report.get("backends") or ()
        if not one.get("absent")
    }
    names = ("verdict", "task", "model_type", "class_name")
    return {**{name: report.get(name) for name in names}, "backends": backends}


def _of_export(artifact: Mapping[str, Any]) -> dict[str, Any]:
    names = ("task", "model_type", "class_name", "target")
    verdict = (artifact.get("verdict") or {}).get("verdict")
    return {"verdict": verdict, **{name: artifact.get(name) for name in names}}


_SUMMARIES = {"convert": _of_conversion, "validate": _of_validation, "export": _of_export}
