"""Creates named Python environments for backends whose packages conflict with those of this environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.validators.runtime.interpreters import environments_folder
from equipoise.validators.runtime.process import WorkerProcess

REQUIREMENTS_FOLDER = Path(__file__).parents[1] / "requirements"
"""``NAME.txt`` for each named environment: the requirements that pip installs."""


def environment_names() -> list[str]:
    """Returns the names of the environments that can be created."""
    return sorted(path.stem for path in REQUIREMENTS_FOLDER.glob("*.txt"))


def create_environment(
    name: str,
    folder: Path | None = None,
    *,
    python: str | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Creates an environment and checks that its worker answers; returns its folder.

    Args:
        name: One of :func:`environment_names`.
        folder: Its folder; None: the one where backends look for it.
        python: The interpreter to create it with; None: this one.
        force: Whether to replace an existing environment.
        tell: Called with a description of each step.

    Raises:
        InputError: There is no such environment, or the folder exists.
        WorkerError: It cannot be created; the message contains the output of pip. The folder is removed.
    """
    if name not in environment_names():
        raise InputError("no such environment", found=name, expected=", ".join(environment_names()))
    path = folder or environments_folder() / name
    if path.exists():
        if not force:
            raise InputError(
                "the environment exists already", file=path, hint="--force replaces it"
            )
        shutil.rmtree(path)
    requirements = REQUIREMENTS_FOLDER / f"{name}.txt"
    try:
        tell("creating the environment")
        _run_command([python or sys.executable, "-m", "venv", str(path)])
        pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check"]
        # torch first: a CPU build of the exact version may be available, without gigabytes of CUDA.
        torch = _torch_requirement(requirements)
        tell(f"installing {torch}")
        _run_command([*pip, torch])
        tell("installing the other requirements")
        _run_command([*pip, "-r", str(requirements)])
        tell("checking the worker")
        with WorkerProcess(path / "bin" / "python") as environment:
            environment.request("hello")
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _torch_requirement(requirements: Path) -> str:
    lines = requirements.read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _run_command(command: list[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise WorkerError(
            f"{' '.join(command[:4])} ended with code {process.returncode}:\n{process.stderr[-2000:]}"
        )
