"""Saves ONNX models with weights inside or outside of the file, sharded, or shared by several graphs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from equipoise.convert.core.framework_types import OnnxGraph, OnnxModel

MAX_INLINE_BYTES = 1 << 30
"""More bytes of weights are stored outside; a protobuf file ends at 2 GiB, the graph included."""

MIN_EXTERNAL_BYTES = 256
"""Smaller tensors stay in the graph, where shape inference can read them."""

_PAGE_BYTES = 4096
_MIN_PAGE_ALIGNED_BYTES = 1 << 20
"""Tensors of at least this size begin at a page, so that they can be memory-mapped."""
_ALIGNMENT_BYTES = 64


class ExternalDataWriter:
    """Writes weights to files next to a graph; equal tensors are stored once.

    Args:
        first: The first file; further ones get the suffixes ``_1``, ``_2``, as transformers.js expects.
        limit: Largest size of a file in bytes, unless one tensor is larger; None writes one file.
    """

    def __init__(self, first: Path, limit: int | None = None) -> None:
        self._first = first
        self._limit = limit
        self._count = 0
        self._locations: dict[bytes, tuple[str, int]] = {}
        self._file: Any = open(first, "wb")  # noqa: SIM115 - closed by close()

    def move(self, graph: OnnxGraph) -> set[Path]:
        """Moves the weights of a graph here and makes the graph refer to them; returns their former files."""
        import onnx_ir

        former: set[Path] = set()
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < MIN_EXTERNAL_BYTES:
                continue
            if isinstance(tensor, onnx_ir.ExternalTensor):
                former.add(Path(tensor.path))
            name, offset = self._store(tensor.tobytes())
            value.const_value = onnx_ir.ExternalTensor(
                name,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=tensor.shape,
                name=tensor.name,
                base_dir=str(self._first.parent),
            )
        self._file.flush()
        return former

    def close(self) -> None:
        """Closes the last file."""
        self._file.close()

    def _store(self, content: bytes) -> tuple[str, int]:
        """Returns file name and offset of these bytes; writes them if they are new."""
        digest = sha256(content).digest()
        if digest not in self._locations:
            if self._limit and self._file.tell() and self._file.tell() + len(content) > self._limit:
                self._open_next()
            is_large = len(content) >= _MIN_PAGE_ALIGNED_BYTES
            alignment = _PAGE_BYTES if is_large else _ALIGNMENT_BYTES
            self._file.write(b"\0" * (-self._file.tell() % alignment))
            self._locations[digest] = Path(self._file.name).name, self._file.tell()
            self._file.write(content)
        return self._locations[digest]

    def _open_next(self) -> None:
        self._file.close()
        self._count += 1
        name = f"{self._first.name}_{self._count}"
        self._file = open(self._first.with_name(name), "wb")  # noqa: SIM115 - closed by close()


def save_model(
    model: OnnxModel, path: Path, *, external: bool = False, limit: int | None = None
) -> None:
    """Saves a model, with its weights outside of the file if they are large or if that is requested.

    Args:
        model: The model.
        path: The file.
        external: Stores weights outside however small they are.
        limit: Largest size of a file of weights in bytes.
    """
    import onnx_ir

    nbytes = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if external or nbytes > min(MAX_INLINE_BYTES, limit or MAX_INLINE_BYTES):
        writer = ExternalDataWriter(external_data_path(path), limit)
        writer.move(model.graph)
        writer.close()
    else:
        onnx_ir.external_data.load_to_model(model)
    onnx_ir.save(model, str(path))


def external_data_path(path: Path) -> Path:
    """Returns the (first) file of weights of a model.

    >>> external_data_path(Path("model.onnx")).name
    'model.onnx_data'
    """
    return path.with_name(f"{path.name}_data")


def remove_unused_inputs(model: OnnxModel) -> None:
    """Removes inputs that no node reads: a decoder with past needs no hidden states of the encoder."""
    unused = [
        value for value in model.graph.inputs if not value.uses() and not value.is_graph_output()
    ]
    for value in unused:
        model.graph.inputs.remove(value)


def share_external_data(paths: list[Path], data: Path, limit: int | None = None) -> None:
    """Moves the weights of several models into one file; equal tensors are stored once.

    Args:
        paths: The models, all in the folder of ``data``.
        data: The file to write.
        limit: Largest size of a file of weights in bytes.
    """
    import onnx_ir

    writer = ExternalDataWriter(data, limit)
    former: set[Path] = set()
    for path in paths:
        model = onnx_ir.load(str(path))
        former |= writer.move(model.graph)
        onnx_ir.save(model, str(path))
    writer.close()
    for path in former:
        path.unlink()
