"""In which form a backend gets a model: what lies in the folder, what is converted, what is a program."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.core.plugins import PluginFolder
from equipoise.exporters.artifact_files import has_jax_program, has_onnx_encoder_decoder
from equipoise.validators.models.folder import ModelFolder

_CLASS_ORDER = ("pytorch", "tensorflow", "flax")
_PROGRAM_ORDER = ("torchscript", "torch-export", "onnx", "saved-model", "stablehlo", "tflite")
"""The order in which reports list backends; one that is not listed here comes after these."""

_BACKENDS = "equipoise.validators.backends"
_CLASSES = PluginFolder(f"{_BACKENDS}.classes")
_PROGRAMS = PluginFolder(f"{_BACKENDS}.programs")


@dataclass(frozen=True)
class ModelSource:
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


def class_backends() -> tuple[str, ...]:
    """Lists the backends that run a checkpoint with the classes of transformers."""
    return _in_order(_CLASSES.names(), _CLASS_ORDER)


def program_backends() -> tuple[str, ...]:
    """Lists the backends that run an exported program."""
    return _in_order(_PROGRAMS.names(), _PROGRAM_ORDER)


def backend_names() -> tuple[str, ...]:
    """Lists all backends, those of classes first."""
    return class_backends() + program_backends()


def is_class_backend(name: str) -> bool:
    """Checks whether a backend runs a checkpoint with the classes of transformers."""
    return name in _CLASSES.names()


def _in_order(names: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    known = [name for name in order if name in names]
    return (*known, *(name for name in names if name not in known))


def resolve_model(model: ModelFolder, backend: str, scratch: Path) -> ModelSource:
    """The form of a model's checkpoint for a backend of classes; converts where it must.

    Args:
        model: The model.
        backend: One of :data:`CLASSES`.
        scratch: A folder that may be written to.

    Raises:
        InputError: The checkpoint cannot be had in that layout; the message says why.
    """
    if (form := _source_in_layout(model, backend)) is not None:
        return form
    output = scratch / backend
    try:
        source = open_checkpoint(model.path).layout or "its layout"
        if not output.exists():
            convert(model.path, output, to=backend)
        return ModelSource(backend, output, f"converted from {source}")
    except EquipoiseError:
        given = _source_in_layout(model, "pytorch")
        if backend == "pytorch" or given is None:
            raise
        origin = "mapped by transformers 4.57.6 (from_pt)"
        return ModelSource(backend, given.path, origin, options={"from_pt": True})


def _source_in_layout(model: ModelFolder, backend: str) -> ModelSource | None:
    """The folder itself, when it holds weights in the backend's layout."""
    try:
        found = open_checkpoint(model.path, layout=backend)
    except EquipoiseError:
        return None
    # Safetensors do not always say whose layout they are in; unnamed ones are PyTorch's.
    layout = found.layout or "pytorch"
    return ModelSource(backend, model.path) if layout == backend else None


def resolve_artifact(path: str | Path) -> ModelSource:
    """Which backend runs an artifact, and what of it is to be loaded.

    Raises:
        InputError: It is no program, and no checkpoint either.
    """
    place = Path(path)
    if not place.exists():
        raise InputError("there is no such artifact", file=place)
    for candidate in _candidate_paths(place):
        if (backend := _backend_for(candidate)) is not None:
            return ModelSource(backend, candidate)
    if place.is_dir() and (place / "config.json").exists():
        layout = open_checkpoint(place).layout or "pytorch"
        return ModelSource(layout, place)
    raise InputError(
        "not an artifact that a backend can run",
        file=place,
        expected="*.onnx, TorchScript, *.pt2, *.tflite, a SavedModel, program.jax, or a checkpoint with its config.json",
    )


def _candidate_paths(place: Path) -> list[Path]:
    """The artifact itself and what lies in it, in an order that does not depend on the disk."""
    if place.is_file():
        return [place]
    inside = sorted(path for path in place.iterdir() if path.is_file())
    return [place, place / "saved_model" / "1", *inside]


def _backend_for(path: Path) -> str | None:
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return "saved-model"
        if has_onnx_encoder_decoder(path):
            return "onnx"
        return "stablehlo" if has_jax_program(path) else None
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
