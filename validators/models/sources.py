"""Decides what a backend loads: the model's folder, a converted checkpoint, or an exported program."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.core.plugins import PluginFolder
from equipoise.convert.folders.quantization import dequantization_advice
from equipoise.exporters.artifact_files import (
    SAVED_MODEL,
    TEXT_PROGRAM,
    TEXT_SAVED_MODEL,
    WEB_FOLDER,
    has_jax_program,
    onnx_encoder_decoder_files,
)
from equipoise.validators.models.folder import ModelFolder

_CLASS_ORDER = ("pytorch", "tensorflow", "flax")
_PROGRAM_ORDER = ("torchscript", "torch-export", "onnx", "saved-model", "stablehlo", "tflite")
"""Order of the backends in reports; a backend that is missing here comes last."""

PROGRAMS_WITH_CODE = {
    "torchscript": "TorchScript",
    "torch-export": "a program of torch.export",
    "saved-model": "a SavedModel",
}
"""Backends whose programs can do more than arithmetic, e.g. write files -> what they run; see docs/security.md."""

_BACKENDS = "equipoise.validators.backends"
_CLASSES = PluginFolder(f"{_BACKENDS}.classes")
_PROGRAMS = PluginFolder(f"{_BACKENDS}.programs")


RIGHTS_NOTE = "it runs with your rights"
"""What is said of a program that runs code or operators of its own; docs/security.md says what that can do."""


@dataclass(frozen=True)
class ModelSource:
    """What a backend loads.

    Attributes:
        backend: Name of the backend.
        path: The folder or file.
        origin: Where it comes from: ``as given``, ``converted from pytorch`` ...
        options: Options of the backend in addition to those of the request.
        label: Its name in reports; empty for the default name.
        others: Names of further programs in the folder of an artifact, which are not run.
    """

    backend: str
    path: Path
    origin: str = "as given"
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    others: tuple[str, ...] = ()

    def code_notes(self, limits: str) -> tuple[str, ...]:
        """Returns a note if this is someone else's program or backend that can do more than arithmetic.

        Args:
            limits: The limits of its process in words.
        """
        code = "Python code" if self.backend.endswith(".py") else ""
        if not code and self.origin == "as given":
            code = PROGRAMS_WITH_CODE.get(self.backend, "")
        notes = [f"{code}: {RIGHTS_NOTE}, within {limits}"] if code else []
        if self.others:
            notes.append(f"other programs of the folder were not run: {', '.join(self.others)}")
        return tuple(notes)

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


FRAMEWORK_CLASSES = ("tensorflow", "flax")
"""Backends that run the classes of another framework, with names of their own for modules and weights."""


def backend_names() -> tuple[str, ...]:
    """Lists all backends, those of classes first."""
    return class_backends() + program_backends()


def is_class_backend(name: str) -> bool:
    """Checks whether a backend runs a checkpoint with the classes of transformers."""
    return name in _CLASSES.names()


def _in_order(names: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    ordered = [name for name in order if name in names]
    return (*ordered, *(name for name in names if name not in ordered))


def resolve_model(model: ModelFolder, backend: str, scratch: Path) -> ModelSource:
    """Returns what a backend of classes loads for a model; converts the checkpoint if necessary.

    Args:
        model: The model.
        backend: One of :func:`class_backends`.
        scratch: A folder for temporary files.

    Raises:
        InputError: The checkpoint cannot be converted to that layout; the message says why.
    """
    _check_plain(model)
    if (source := _source_in_layout(model, backend)) is not None:
        return source
    output = scratch / backend
    try:
        layout = open_checkpoint(model.path).layout or "its layout"
        if not output.exists():
            convert(model.path, output, to=backend)
        return ModelSource(backend, output, f"converted from {layout}")
    except EquipoiseError:
        pytorch_source = _source_in_layout(model, "pytorch")
        if backend == "pytorch" or pytorch_source is None:
            raise
        origin = "mapped by transformers 4.57.6 (from_pt)"
        return ModelSource(backend, pytorch_source.path, origin, options={"from_pt": True})


def _check_plain(model: ModelFolder) -> None:
    """Checks that the weights are not quantized: what runs them differs from machine to machine.

    Raises:
        InputError: They are.
    """
    method = model.quantization
    if method is None:
        return
    can = "--dequantize" in dequantization_advice(method)
    raise InputError(
        f"the weights are quantized by {method}, and quantized weights are not run",
        file=model.path,
        hint=f"equipoise convert {model.path} OUTPUT --to pytorch --dequantize, and run OUTPUT"
        if can
        else "run the model that it was quantized from",
    )


def _source_in_layout(model: ModelFolder, backend: str) -> ModelSource | None:
    """Returns the folder itself if its weights are in the backend's layout."""
    try:
        checkpoint = open_checkpoint(model.path, layout=backend)
    except EquipoiseError:
        return None
    if not checkpoint.is_standard:
        return None
    # Safetensors files do not always name their layout; the default is PyTorch's.
    layout = checkpoint.layout or "pytorch"
    return ModelSource(backend, model.path) if layout == backend else None


@contextmanager
def name_user_paths(model: str | Path, scratch: Path) -> Iterator[None]:
    """Names the user's model in errors in place of the temporary folder that it was converted into."""
    try:
        yield
    except EquipoiseError as error:
        rename_scratch(error, model, scratch)
        raise


def rename_scratch(error: EquipoiseError, model: str | Path, scratch: Path) -> None:
    """Replaces the temporary folders of converted checkpoints in an error by the user's model."""
    for backend in class_backends():
        error.rename_path(scratch / backend, f"{model} (converted to {backend})")


def resolve_artifact(path: str | Path) -> ModelSource:
    """Returns the backend that runs an artifact, and the path that it loads.

    Raises:
        InputError: The artifact is neither a program nor a checkpoint.
    """
    artifact = Path(path)
    if not artifact.exists():
        raise InputError("there is no such artifact", file=artifact)
    if artifact.name == TEXT_PROGRAM or Path(TEXT_SAVED_MODEL).parent.name in artifact.parts:
        raise InputError(
            "this program takes texts, and a backend is given tokens",
            file=artifact,
            hint="the program from tokens beside it has the same weights and is judged instead; "
            "artifact.json says on which texts this one was compared with it",
        )
    candidates = [
        (path, backend) for path in _candidate_paths(artifact) if (backend := _backend_for(path))
    ]
    if candidates:
        (path, backend), *others = candidates
        left = tuple(other.name for other, _ in others if path != artifact)
        return ModelSource(backend, path, others=left)
    if artifact.is_dir() and (artifact / "config.json").exists():
        layout = open_checkpoint(artifact).layout or "pytorch"
        return ModelSource(layout, artifact)
    raise InputError(
        "not an artifact that a backend can run",
        file=artifact,
        expected="*.onnx, TorchScript, *.pt2, *.tflite, a SavedModel, program.jax, or a checkpoint with its config.json",
    )


def with_distinct_labels(sources: Sequence[ModelSource]) -> list[ModelSource]:
    """Returns artifacts with labels that tell those apart whose files have one name: ``onnx (fp16/model.onnx)``."""
    names = Counter((one.backend, one.path.name) for one in sources)
    return [
        replace(one, label=f"{one.backend} ({'/'.join(one.path.parts[-2:])})")
        if names[one.backend, one.path.name] > 1
        else one
        for one in sources
    ]


def _candidate_paths(artifact: Path) -> list[Path]:
    """Returns the artifact and the files in it, in an order that does not depend on the file system."""
    if artifact.is_file():
        return [artifact]
    web = artifact / WEB_FOLDER
    files = [
        path for folder in (artifact, web) if folder.is_dir() for path in sorted(folder.iterdir())
    ]
    programs = [path for path in files if path.is_file() and path.name != TEXT_PROGRAM]
    return [artifact, web, artifact / SAVED_MODEL, *programs]


def _backend_for(path: Path) -> str | None:
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return "saved-model"
        if onnx_encoder_decoder_files(path):
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
    """Checks whether an archive contains code; a checkpoint with the same suffix contains only tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False
