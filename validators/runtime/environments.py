"""Creates named Python environments for backends whose packages conflict with those of this environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.convert.files.output_folder import replace_folder
from equipoise.convert.files.ownership import list_entries
from equipoise.validators.runtime.interpreters import environments_folder
from equipoise.validators.runtime.process import WorkerProcess

REQUIREMENTS_FOLDER = Path(__file__).parents[1] / "requirements"
"""``NAME.txt`` for each named environment: the requirements that pip installs."""

INDEX_NAME = "equipoise-environment.json"
"""Lists the files of an environment, so that only these are replaced."""


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
    """Creates an environment beside its folder, checks that its worker answers, and puts it into its place.

    Args:
        name: One of :func:`environment_names`.
        folder: Its folder; None: the one where backends look for it.
        python: The interpreter to create it with; None: this one.
        force: Whether to replace an existing environment, if nothing in it is the user's.
        tell: Called with a description of each step.

    Returns:
        Its folder.

    Raises:
        InputError: There is no such environment or interpreter, or the folder exists or holds what is the user's.
        WorkerError: It cannot be created; the message contains the output of pip. What was there stays as it was.
    """
    if name not in environment_names():
        raise InputError("no such environment", found=name, expected=", ".join(environment_names()))
    path = folder or environments_folder() / name
    interpreter = shutil.which(python or sys.executable)
    if interpreter is None:
        raise InputError(
            "there is no such interpreter", found=python, hint="--python /path/to/python"
        )
    with replace_folder(path, force=force) as new:
        tell("creating the environment")
        _run_command([interpreter, "-m", "venv", str(new)])
        _install_requirements(new, REQUIREMENTS_FOLDER / f"{name}.txt", tell)
        tell("checking the worker")
        with WorkerProcess(new / "bin" / "python") as environment:
            environment.request("hello")
        _rewrite_paths(new, Path(os.path.realpath(path)))
        index = json.dumps({"environment": name, "files": list_entries(new)})
        (new / INDEX_NAME).write_text(index, encoding="utf-8")
    return path


def _install_requirements(folder: Path, requirements: Path, tell: Callable[[str], None]) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-input"]
    # torch first: a CPU build of the exact version may be available, without gigabytes of CUDA.
    torch = _torch_requirement(requirements)
    tell(f"installing {torch}")
    _run_command([*pip, torch])
    tell("installing the other requirements")
    _run_command([*pip, "-r", str(requirements)])


def _rewrite_paths(folder: Path, final: Path) -> None:
    """Replaces the folder's path by its final one in the scripts and the configuration of an environment."""
    before, after = os.fsencode(folder), os.fsencode(final)
    for path in (folder / "pyvenv.cfg", *(folder / "bin").iterdir()):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if before in content and b"\0" not in content:
                path.write_bytes(content.replace(before, after))


def _torch_requirement(requirements: Path) -> str:
    lines = requirements.read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _run_command(command: list[str]) -> None:
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise WorkerError(
            f"{' '.join(command[:4])} ended with code {process.returncode}:\n{process.stderr[-2000:]}"
        )
