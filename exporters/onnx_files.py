"""ONNX files: weights within or beside them, or shared by several graphs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

LARGEST_INLINE = 1 << 30
"""Bytes of weights that stay in the file itself; a file of protobuf ends at 2 GiB, the graph included."""

SMALLEST_SHARED = 256
"""Bytes; what is smaller stays in the graph, where shapes can be inferred from it."""

_PAGE, _LARGE = 4096, 1 << 20
"""Large weights begin at a page, so that they can be mapped into memory."""


def write(model: Any, path: Path, *, external: bool) -> None:
    """Saves a graph; weights go to a file beside it where they are many or where that is asked for."""
    import onnx_ir

    nbytes = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if external or nbytes > LARGEST_INLINE:
        onnx_ir.save(model, str(path), external_data=f"{path.name}.data")
    else:
        onnx_ir.save(model, str(path))


def drop_unused(model: Any) -> None:
    """Removes inputs that nothing reads: a decoder with past needs no hidden states of the encoder."""
    unused = [
        value for value in model.graph.inputs if not value.uses() and not value.is_graph_output()
    ]
    for value in unused:
        model.graph.inputs.remove(value)


def share(paths: list[Path], data: Path) -> None:
    """Moves the weights of graphs into one file, equal ones once, and makes the graphs refer to it.

    Args:
        paths: The graphs, all in the folder of ``data``.
        data: The file to write.
    """
    import onnx_ir

    offsets: dict[bytes, int] = {}
    old: set[Path] = set()
    with open(data, "wb") as file:
        for path in paths:
            model = onnx_ir.load(str(path))
            for value in model.graph.initializers.values():
                tensor: Any = value.const_value
                if tensor is None or tensor.nbytes < SMALLEST_SHARED:
                    continue
                if isinstance(tensor, onnx_ir.ExternalTensor):
                    old.add(Path(tensor.path))
                offset = _stored(tensor.tobytes(), file, offsets)
                value.const_value = onnx_ir.ExternalTensor(
                    data.name,
                    offset,
                    tensor.nbytes,
                    tensor.dtype,
                    shape=tensor.shape,
                    name=tensor.name,
                    base_dir=str(data.parent),
                )
            file.flush()
            onnx_ir.save(model, str(path))
    for path in old:
        path.unlink()


def _stored(content: bytes, file: Any, offsets: dict[bytes, int]) -> int:
    """Where these bytes lie in the file; writes them if they are new."""
    digest = sha256(content).digest()
    if digest not in offsets:
        file.write(b"\0" * (-file.tell() % (_PAGE if len(content) >= _LARGE else 64)))
        offsets[digest] = file.tell()
        file.write(content)
    return offsets[digest]
