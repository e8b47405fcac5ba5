"""In which form a backend gets a model: what lies in the folder, what is converted, what is a program."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.validators.backends.onnx_cache import is_seq2seq
from equipoise.validators.backends.stablehlo import is_program
from equipoise.validators.model import ModelFolder

CLASSES = ("pytorch", "tensorflow", "flax")
"""Backends that run a checkpoint with the classes of transformers."""

PROGRAMS = ("torchscript", "torch-export", "onnx", "saved-model", "stablehlo", "tflite")
"""Backends that run a program."""


@dataclass(frozen=True)
class Form:
    """What a backend loads.

    Attributes:
        backend: Its name.
        path: The folder or file.
        origin: ``as given``, ``converted from pytorch``, or how else it came about.
        options: What the backend is loaded with beside the request's options.
        label: How reports call it; empty: as they call others.
    """

    backend: str
    path: Path
    origin: str = "as given"
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def from_pt(self) -> bool:
        """Whether transformers 4.57.6 maps the PyTorch weights itself."""
        return bool(self.options.get("from_pt"))


def backend_names() -> tuple[str, ...]:
    """All backends, classes first."""
    return CLASSES + PROGRAMS


def form_of_model(model: ModelFolder, backend: str, scratch: Path) -> Form:
    """The form of a model's checkpoint for a backend of classes; converts where it must.

    Args:
        model: The model.
        backend: One of :data:`CLASSES`.
        scratch: A folder that may be written to.

    Raises:
        InputError: The checkpoint cannot be had in that layout; the message says why.
    """
    if (form := _as_given(model, backend)) is not None:
        return form
    output = scratch / backend
    try:
        source = open_checkpoint(model.path).layout or "its layout"
        if not output.exists():
            convert(model.path, output, to=backend)
        return Form(backend, output, f"converted from {source}")
    except EquipoiseError:
        given = _as_given(model, "pytorch")
        if backend == "pytorch" or given is None:
            raise
        origin = "mapped by transformers 4.57.6 (from_pt)"
        return Form(backend, given.path, origin, options={"from_pt": True})


def _as_given(model: ModelFolder, backend: str) -> Form | None:
    """The folder itself, when it holds weights in the backend's layout."""
    try:
        found = open_checkpoint(model.path, layout=backend)
    except EquipoiseError:
        return None
    # Safetensors do not always say whose layout they are in; unnamed ones are PyTorch's.
    layout = found.layout or "pytorch"
    return Form(backend, model.path) if layout == backend else None


def form_of_artifact(path: str | Path) -> Form:
    """Which backend runs an artifact, and what of it is to be loaded.

    Raises:
        InputError: It is no program, and no checkpoint either.
    """
    place = Path(path)
    if not place.exists():
        raise InputError("there is no such artifact", file=place)
    for candidate in _candidates(place):
        if (backend := _backend_of(candidate)) is not None:
            return Form(backend, candidate)
    if place.is_dir() and (place / "config.json").exists():
        layout = open_checkpoint(place).layout or "pytorch"
        return Form(layout, place)
    raise InputError(
        "not an artifact that a backend can run",
        file=place,
        expected="*.onnx, TorchScript, *.pt2, *.tflite, a SavedModel, program.jax, or a checkpoint with its config.json",
    )


def _candidates(place: Path) -> list[Path]:
    """The artifact itself and what lies in it, in an order that does not depend on the disk."""
    if place.is_file():
        return [place]
    inside = sorted(path for path in place.iterdir() if path.is_file())
    return [place, place / "saved_model" / "1", *inside]


def _backend_of(path: Path) -> str | None:
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return "saved-model"
        if is_seq2seq(path):
            return "onnx"
        return "stablehlo" if is_program(path) else None
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix == ".tflite":
        return "tflite"
    if path.suffix == ".pt2":
        return "torch-export"
    if path.suffix in (".pt", ".ts", ".torchscript", ".pth") and _is_torchscript(path):
        return "torchscript"
    return None


def _is_torchscript(path: Path) -> bool:
    """Whether the archive holds code; a checkpoint with the same ending holds tensors only."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False
