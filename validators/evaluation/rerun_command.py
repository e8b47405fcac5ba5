"""Builds the command line that repeats a validation."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from equipoise.validators.core.precision import PRECISIONS
from equipoise.validators.core.request import Request


def rerun_command(request: Request, task: str, interpreters: Mapping[str, str]) -> str:
    """Returns ``equipoise validate ...`` with all options that affect the result.

    Args:
        request: The settings of the validation.
        task: The name of the task that was run.
        interpreters: Interpreters of backends by name, as for ``--env``.
    """
    names = {dtype: name for name, dtype in PRECISIONS.items()}
    parts = ["equipoise", "validate", str(request.model), *map(str, request.artifacts)]
    parts += ["--task", task, "--precision", names[request.precision], "--device", request.device]
    if request.backends is not None:
        parts += ["--backends", ",".join(request.backends)]
    if request.cases is not None:
        parts += ["--cases", ",".join(request.cases)]
    if request.budget is not None:
        parts += ["--budget", f"{request.budget:g}s"]
    if request.max_samples is not None:
        parts += ["--max-samples", str(request.max_samples)]
    if request.tf32:
        parts.append("--tf32")
    if request.samples is not None:
        parts += ["--samples", "samples.json"]
    for name in ("atol", "rtol"):
        if value := getattr(request.allowed, name):
            parts += [f"--{name}", str(value)]
    if request.against_golden is not None:
        parts += ["--against-golden", str(request.against_golden)]
    parts += ["--threads", str(request.threads)]
    for backend, python in interpreters.items():
        parts += ["--env", f"{backend}={python}"]
    return shlex.join(parts)
