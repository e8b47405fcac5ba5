"""Reads variable names from the object graph of a TensorFlow 2 checkpoint."""

from __future__ import annotations

from equipoise.convert.containers._shared.protobuf import read_fields, read_varint
from equipoise.convert.core.errors import ContainerError

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VARIABLE_VALUE = "VARIABLE_VALUE"
_CHECKSUM_BYTES = 4


def parse_string_tensor(raw: bytes) -> bytes:
    """Parses a string tensor of one element: length, checksum, string.

    Raises:
        ContainerError: It is something else.
    """
    length, position = read_varint(raw, 0)
    start = position + _CHECKSUM_BYTES
    if start + length != len(raw):
        raise ContainerError("a string tensor is corrupt")
    return raw[start:]


def variable_names(graph: bytes) -> dict[str, str]:
    """Returns key -> variable name; variables without a name are missing.

    Args:
        graph: A serialized ``TrackableObjectGraph``.

    Raises:
        ContainerError: It is corrupt.
    """
    names: dict[str, str] = {}
    for node in read_fields(graph):
        if node.number != 1:
            continue
        for part in read_fields(node.message()):
            if part.number == 2:
                name, full, key = _parse_attribute(part.message())
                if name == VARIABLE_VALUE and full and key:
                    names.setdefault(key, full)
    return names


def _parse_attribute(data: bytes) -> tuple[str, str, str]:
    """Returns name, full name and key of a ``SerializedTensor``."""
    texts = {1: "", 2: "", 3: ""}
    for field in read_fields(data):
        if field.number in texts:
            texts[field.number] = field.text()
    return texts[1], texts[2], texts[3]
