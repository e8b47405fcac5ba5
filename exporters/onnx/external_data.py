"""ONNX files: weights within or beside them, in files of a limited size, or shared by several graphs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

MAX_INLINE_BYTES = 1 << 30
"""Bytes of weights that stay in the file itself; a file of protobuf ends at 2 GiB, the graph included."""

MIN_EXTERNAL_BYTES = 256
"""Bytes; what is smaller stays in the graph, where shapes can be inferred from it."""

_PAGE_BYTES, _PAGE_ALIGNED_BYTES = 4096, 1 << 20
"""Large weights begin at a page, so that they can be mapped into memory."""


class ExternalDataWriter:
    """Files of weights beside graphs: what is equal lies there once, and a full file is followed by another.

    Args:
        first: The file; the next ones are called like it with ``_1``, ``_2`` behind, as transformers.js expects them.
        limit: The bytes of a file, if one tensor is not more; None: all in one.
    """

    def __init__(self, first: Path, limit: int | None = None) -> None:
        self._first = first
        self._limit = limit
        self._count = 0
        self._places: dict[bytes, tuple[str, int]] = {}
        self._file: Any = open(first, "wb")  # noqa: SIM115 - closed by close()

    def move(self, graph: Any) -> set[Path]:
        """Puts a graph's weights here and lets it refer to them; gives the files where they were before."""
        import onnx_ir

        old: set[Path] = set()
        for value in graph.initializers.values():
            tensor: Any = value.const_value
            if tensor is None or tensor.nbytes < MIN_EXTERNAL_BYTES:
                continue
            if isinstance(tensor, onnx_ir.ExternalTensor):
                old.add(Path(tensor.path))
            name, offset = self._stored(tensor.tobytes())
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
        return old

    def close(self) -> None:
        """No more is to come."""
        self._file.close()

    def _stored(self, content: bytes) -> tuple[str, int]:
        """The file where these bytes lie, and where in it; writes them if they are new."""
        digest = sha256(content).digest()
        if digest not in self._places:
            if self._limit and self._file.tell() and self._file.tell() + len(content) > self._limit:
                self._next()
            self._file.write(
                b"\0"
                * (
                    -self._file.tell()
                    % (_PAGE_BYTES if len(content) >= _PAGE_ALIGNED_BYTES else 64)
                )
            )
            self._places[digest] = Path(self._file.name).name, self._file.tell()
            self._file.write(content)
        return self._places[digest]

    def _next(self) -> None:
        self._file.close()
        self._count += 1
        name = f"{self._first.name}_{self._count}"
        self._file = open(self._first.with_name(name), "wb")  # noqa: SIM115 - closed by close()


def save_model(model: Any, path: Path, *, external: bool = False, limit: int | None = None) -> None:
    """Saves a graph; weights go beside it where they are many or where that is asked for.

    Args:
        model: The graph.
        path: The file.
        external: Weights go beside it, however few.
        limit: The bytes of a file of weights.
    """
    import onnx_ir

    nbytes = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if external or nbytes > min(MAX_INLINE_BYTES, limit or MAX_INLINE_BYTES):
        weights = ExternalDataWriter(external_data_path(path), limit)
        weights.move(model.graph)
        weights.close()
    else:
        onnx_ir.external_data.load_to_model(model)
    onnx_ir.save(model, str(path))


def external_data_path(path: Path) -> Path:
    """The (first) file of weights of a graph.

    >>> beside(Path("model.onnx")).name
    'model.onnx_data'
    """
    return path.with_name(f"{path.name}_data")


def remove_unused_inputs(model: Any) -> None:
    """Removes inputs that nothing reads: a decoder with past needs no hidden states of the encoder."""
    unused = [
        value for value in model.graph.inputs if not value.uses() and not value.is_graph_output()
    ]
    for value in unused:
        model.graph.inputs.remove(value)


def share_external_data(paths: list[Path], data: Path, limit: int | None = None) -> None:
    """Moves the weights of graphs into one file, equal ones once, and makes the graphs refer to it.

    Args:
        paths: The graphs, all in the folder of ``data``.
        data: The file to write.
        limit: The bytes of a file.
    """
    import onnx_ir

    weights = ExternalDataWriter(data, limit)
    old: set[Path] = set()
    for path in paths:
        model = onnx_ir.load(str(path))
        old |= weights.move(model.graph)
        onnx_ir.save(model, str(path))
    weights.close()
    for path in old:
        path.unlink()
