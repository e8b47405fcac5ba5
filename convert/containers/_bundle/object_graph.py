"""The object graph in a checkpoint of TensorFlow 2: which key is which variable."""

from __future__ import annotations

from equipoise.convert.containers._bundle.protobuf import read_fields, read_varint
from equipoise.convert.core.errors import ContainerError

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VARIABLE_VALUE = "VARIABLE_VALUE"
_CHECKSUM_BYTES = 4


def parse_string_tensor(raw: bytes) -> bytes:
    """The text in a string tensor of one element: its length, a checksum, the text.

    Raises:
        ContainerError: It is something else.
    """
    length, position = read_varint(raw, 0)
    start = position + _CHECKSUM_BYTES
    if start + length != len(raw):
        raise ContainerError("a text tensor is damaged")
    return raw[start:]


def variable_names(graph: bytes) -> dict[str, str]:
    """The name that each variable had while it lived, by its key; nameless ones are missing.

    Args:
        graph: A serialized ``TrackableObjectGraph``.

    Raises:
        ContainerError: It is damaged.
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
    """Name, full name and key of a ``SerializedTensor``."""
    texts = {1: "", 2: "", 3: ""}
    for field in read_fields(data):
        if field.number in texts:
            try:
                texts[field.number] = field.message().decode()
            except UnicodeDecodeError:
                raise ContainerError("a name in the object graph is no text") from None
    return texts[1], texts[2], texts[3]
