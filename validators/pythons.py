"""Which Python runs a backend: this one, a named environment, or one that the user gives."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from equipoise.convert.core.errors import InputError

NEEDS = {
    "pytorch": ("torch", "transformers"),
    "torchscript": ("torch",),
    "torch-export": ("torch", "transformers"),
    "onnx": ("onnxruntime",),
    "saved-model": ("tensorflow",),
    "tflite": ("tensorflow",),
    "stablehlo": ("jax", "flax"),
}
"""Modules that a backend needs in this environment. The classes of TensorFlow and Flax are never in it: they
end with transformers 4.57.6, which the environment ``oracle`` has."""

ORACLE = ("tensorflow", "flax", "saved-model", "tflite", "stablehlo")
"""Backends that the environment ``oracle`` serves where this one cannot."""


def environments_folder() -> Path:
    """Where named environments are: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "equipoise" / "environments"


def environment_python(name: str) -> Path:
    """The interpreter of a named environment, whether it is there or not."""
    folder = environments_folder() / name
    windows = folder / "Scripts" / "python.exe"
    return windows if windows.exists() else folder / "bin" / "python"


def python_of(backend: str, chosen: Mapping[str, str]) -> Path:
    """The interpreter that is to run a backend.

    Args:
        backend: Its name, or the path of a file that is one.
        chosen: ``--env`` of the user: a backend's name -> an interpreter or the name of an environment.

    Raises:
        InputError: None is there; the message says what to install.
    """
    if backend in chosen:
        return _given(chosen[backend])
    if backend.endswith(".py"):
        return Path(sys.executable)
    needs = NEEDS.get(backend)
    missing = [name for name in needs if find_spec(name) is None] if needs else []
    if needs and not missing:
        return Path(sys.executable)
    if backend in ORACLE:
        oracle = _given(chosen["oracle"]) if "oracle" in chosen else environment_python("oracle")
        if oracle.exists():
            return oracle
        raise InputError(
            f"the backend {backend!r} has no environment",
            hint="`equipoise env create oracle`, or --env oracle=/path/to/python",
        )
    extra = {"onnx": "onnx"}.get(backend, "torch")
    raise InputError(
        f"the backend {backend!r} needs {', '.join(missing)}",
        hint=f"pip install 'equipoise[{extra}]'",
    )


def _given(text: str) -> Path:
    path = Path(text)
    if path.name == text and not path.exists():
        path = environment_python(text)
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.exists():
        raise InputError(
            "there is no such interpreter", file=path, hint="--env BACKEND=/path/to/python"
        )
    return path
