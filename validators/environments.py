"""Named Python environments for backends that cannot live in this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.validators.environment import Environment
from equipoise.validators.pythons import environments_folder

REQUIREMENTS = Path(__file__).with_name("requirements")
"""``NAME.txt`` for every named environment: what pip installs, line after line."""


def names() -> list[str]:
    """The environments that can be made."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def create(
    name: str,
    folder: Path | None = None,
    *,
    python: str | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Makes an environment and checks that its worker answers; returns its folder.

    Args:
        name: One of :func:`names`.
        folder: Where; None: where backends look for it.
        python: The interpreter to make it with; None: this one.
        force: Makes it anew where it is there.
        tell: Told what is at work.

    Raises:
        InputError: There is no such environment, or the folder is taken.
        WorkerError: It cannot be made; what pip said is in the message. Nothing is left behind.
    """
    if name not in names():
        raise InputError("no such environment", found=name, expected=", ".join(names()))
    place = folder or environments_folder() / name
    if place.exists():
        if not force:
            raise InputError("it is there already", file=place, hint="--force makes it anew")
        shutil.rmtree(place)
    requirements = REQUIREMENTS / f"{name}.txt"
    try:
        tell("making the environment")
        _call([python or sys.executable, "-m", "venv", str(place)])
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check"]
        # torch first and alone: the exact version may have a build without gigabytes of CUDA at hand.
        torch = _torch(requirements)
        tell(f"installing {torch}")
        _call([*pip, torch])
        tell("installing the rest")
        _call([*pip, "-r", str(requirements)])
        tell("checking")
        with Environment(place / "bin" / "python") as environment:
            environment.request("hello")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def _torch(requirements: Path) -> str:
    lines = requirements.read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(
            f"{' '.join(command[:4])} ended with code {done.returncode}:\n{done.stderr[-2000:]}"
        )
