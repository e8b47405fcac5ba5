"""Chooses the Python interpreter of a backend: this one, a named environment, or one that the user names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import install_hint

REQUIRED_MODULES = {
    "pytorch": ("torch", "transformers"),
    "torchscript": ("torch",),
    "torch-export": ("torch", "transformers"),
    "onnx": ("onnxruntime",),
    "saved-model": ("tensorflow",),
    "tflite": ("tensorflow",),
    "stablehlo": ("jax", "flax"),
}
"""Modules that a backend needs in this environment. The TensorFlow and Flax classes are not listed: transformers
4.57.6 is the last release that has them, and the environment ``oracle`` contains it.
"""

ORACLE_BACKENDS = ("tensorflow", "flax", "saved-model", "tflite", "stablehlo")
"""Backends that run in the environment ``oracle`` if this one lacks their modules."""


def cache_folder() -> Path:
    """Returns Equipoise's folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "equipoise"


def environments_folder() -> Path:
    """Returns the folder of named environments, in the user's cache."""
    return cache_folder() / "environments"


def environment_interpreter(name: str) -> Path:
    """Returns the path of a named environment's interpreter, which need not exist."""
    folder = environments_folder() / name
    windows = folder / "Scripts" / "python.exe"
    return windows if windows.exists() else folder / "bin" / "python"


def find_interpreter(backend: str, interpreters: Mapping[str, str]) -> Path:
    """Returns the interpreter that runs a backend.

    Args:
        backend: Its name, or the path of a file that defines it.
        interpreters: ``--env`` of the user: name of a backend -> interpreter or name of an environment.

    Raises:
        InputError: No interpreter is found; the message says what to install.
    """
    if backend in interpreters:
        return resolve_interpreter(interpreters[backend])
    if backend.endswith(".py"):
        return Path(sys.executable)
    required = REQUIRED_MODULES.get(backend)
    missing = [name for name in required if find_spec(name) is None] if required else []
    if required and not missing:
        return Path(sys.executable)
    if backend in ORACLE_BACKENDS:
        oracle = (
            resolve_interpreter(interpreters["oracle"])
            if "oracle" in interpreters
            else environment_interpreter("oracle")
        )
        if oracle.exists():
            return oracle
        raise InputError(
            f"the backend {backend!r} has no environment",
            hint="`equipoise env create oracle`, or --env oracle=/path/to/python",
        )
    extra = {"onnx": "onnx"}.get(backend, "torch")
    raise InputError(
        f"the backend {backend!r} needs {', '.join(missing)}",
        hint=install_hint(extra),
    )


def resolve_interpreter(text: str) -> Path:
    """Returns the interpreter that a path, a folder of an environment, or the name of one means.

    Raises:
        InputError: There is no such interpreter.
    """
    path = Path(text)
    if path.name == text and not path.exists():
        path = environment_interpreter(text)
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.exists():
        raise InputError(
            "there is no such interpreter", file=path, hint="--env BACKEND=/path/to/python"
        )
    return path
