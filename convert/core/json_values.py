"""JSON: reads files of the user and checks the shape of what they hold; makes values that JSON can hold.

A shape is a type (``str``, ``int``, ``float``, ``bool``, ``dict``, ``list``; ``object`` is any), None, a tuple of alternatives, a list of one
shape (every item has it), a dict ``{str: shape}`` (every value has it), or a dict of field names; a field whose name
ends with ``?`` may be missing, and further fields are allowed.

>>> describe_mismatch({"file": "model.safetensors", "shape": [3, "4"]}, {"file": str, "shape": [int], "note?": str})
"shape[1]: '4' is not an integer"
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from equipoise.convert.core.errors import CheckpointError

_MIN_VALUES = 100_000
_MIN_BYTES_PER_VALUE = 16
"""A JSON text may hold this many lists and objects, and one more in this many bytes; four times as many quotation marks."""

MAX_JSON_BYTES = 64 << 20
"""The largest JSON file that is read whole; an index of 300,000 tensors takes less."""

_ENCODER = json.JSONEncoder(ensure_ascii=False)

Shape: TypeAlias = Any
"""The shape of a JSON value, as the head of this module describes it."""

_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    None: "null",
}
_MAX_SHOWN_CHARACTERS = 60


def describe_mismatch(value: object, shape: Shape) -> str | None:
    """Returns where a value first differs from a shape and how, or None if it has the shape."""
    return next(_mismatches(value, shape, ""), None)


def _mismatches(value: object, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(shape, tuple):
        yield from _alternative_mismatches(value, shape, path)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield _message(value, path, _type_name(list))
            return
        for index, item in enumerate(value):
            yield from _mismatches(item, shape[0], f"{path}[{index}]")
    elif isinstance(shape, dict):
        yield from _object_mismatches(value, shape, path)
    elif not _has_type(value, shape):
        yield _message(value, path, _type_name(shape))


def _alternative_mismatches(value: object, shapes: tuple[Shape, ...], path: str) -> Iterator[str]:
    first = [next(_mismatches(value, one, path), None) for one in shapes]
    if None in first:
        return
    nested = [
        found
        for one, found in zip(shapes, first, strict=True)
        if isinstance(one, (dict, list)) and isinstance(value, type(one))
    ]
    names = dict.fromkeys(map(_type_name, shapes))
    yield nested[-1] or "" if nested else _message(value, path, " or ".join(names))


def _object_mismatches(value: object, shape: dict[Any, Shape], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _message(value, path, _type_name(dict))
        return
    if str in shape:
        for name, item in value.items():
            yield from _mismatches(item, shape[str], f"{path}.{name}" if path else name)
        return
    for field, expected in shape.items():
        name = field.removesuffix("?")
        where = f"{path}.{name}" if path else name
        if name in value:
            yield from _mismatches(value[name], expected, where)
        elif name == field:
            yield f"{where} is missing"


def _has_type(value: object, kind: type | None) -> bool:
    if kind is None or kind is object:
        return kind is object or value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _type_name(shape: Shape) -> str:
    kind: Shape = type(shape) if isinstance(shape, (dict, list)) else shape
    return _TYPE_NAMES[kind]


def _message(value: object, path: str, expected: str) -> str:
    text = repr(value)
    if len(text) > _MAX_SHOWN_CHARACTERS:
        text = f"{text[:_MAX_SHOWN_CHARACTERS]}..."
    return f"{path or 'the value'}: {text} is not {expected}"


def check_density(text: bytes) -> None:
    """Checks that parsing a JSON text takes little memory: about 16 times its length at most.

    Lists, objects and strings of a few bytes each become Python objects of 50 to 250 bytes. Texts with names in them, such as
    the header of a safetensors file or an index of shards, have far fewer of these than the limits here.

    Raises:
        ValueError: The text consists of too many tiny values.
    """
    allowed = _MIN_VALUES + len(text) // _MIN_BYTES_PER_VALUE
    if text.count(b"[") + text.count(b"{") > allowed or text.count(b'"') > 4 * allowed:
        raise ValueError("it consists of too many tiny values; no file of weights does")


def read_json(
    path: Path,
    shape: Shape = dict,
    *,
    hint: str | None = None,
    max_bytes: int = MAX_JSON_BYTES,
) -> Any:
    """Reads a JSON file; refuses duplicate keys and numbers that JSON does not have.

    Args:
        path: The file.
        shape: The shape that the content must have.
        hint: What the reader can do about a file that is not right.
        max_bytes: The largest file that is read.

    Raises:
        CheckpointError: It cannot be read, is too large, is not JSON, or has another shape.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            limit = f"at most {max_bytes} bytes"
            raise CheckpointError("too large for a JSON file", file=path, expected=limit)
        check_density(data)
        value = json.loads(data, object_pairs_hook=_reject_duplicate_keys)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", file=path, hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not valid JSON: {error}", file=path, hint=hint) from error
    problem = describe_mismatch(value, shape)
    if problem is not None:
        raise CheckpointError(problem, file=path, hint=hint)
    return value


def is_plain_file_name(name: str) -> bool:
    """Returns whether a name from a JSON file names a file in the same folder, and nothing elsewhere.

    >>> [is_plain_file_name(name) for name in ("a.bin", "../a.bin", "/a.bin", "..", "")]
    [True, False, False, False, False]
    """
    return Path(name).name == name and name not in ("", ".", "..") and "\0" not in name


def is_inner_path(name: str) -> bool:
    """Returns whether a name from a JSON file is the path of a file in the same folder or below, with slashes.

    >>> [is_inner_path(name) for name in ("a.bin", "1_Pooling/config.json", "../a.bin", "/a.bin", "a//b", "")]
    [True, True, False, False, False, False]
    """
    return all(is_plain_file_name(part) for part in name.split("/"))


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"duplicate key {first_duplicate_key(pairs)!r}")
    return found


def first_duplicate_key(pairs: Iterable[tuple[str, Any]]) -> str:
    """Returns the first key of an object's entries that an earlier entry has.

    Raises:
        ValueError: There is none.
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise ValueError("no key is duplicated")


def json_pieces(values: Mapping[str, Any], depth: int = 2) -> Iterator[str]:
    """Yields the JSON text of an object in pieces, so that a large one is never whole in memory.

    Objects down to ``depth`` levels have a line for each entry.

    >>> print("".join(json_pieces({"format": 2, "files": {"a": "00", "b": "11"}, "notes": []})))
    {
     "format": 2,
     "files": {
      "a": "00",
      "b": "11"
     },
     "notes": []
    }
    """
    yield from _object_pieces(values, depth, "\n ")


def _object_pieces(values: Mapping[str, Any], depth: int, line: str) -> Iterator[str]:
    between = "{"
    for name, value in values.items():
        yield f"{between}{line}{_ENCODER.encode(name)}: "
        between = ","
        if depth > 1 and isinstance(value, Mapping):
            yield from _object_pieces(value, depth - 1, f"{line} ")
        else:
            yield _ENCODER.encode(value)
    yield f"{line[:-1]}}}" if between == "," else "{}"


def to_json_value(value: object) -> object:
    """Returns a value with tuples as lists, keys as strings, and infinite and NaN floats as None.

    >>> to_json_value({1: (float("nan"), 2.5)})
    {'1': [None, 2.5]}
    """
    if isinstance(value, dict):
        return {str(key): to_json_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_MAX_SIZE = 1 << 31


def is_size(value: object) -> bool:
    """Checks whether a value is a positive integer that a tensor may have as a size."""
    return type(value) is int and 0 < value < _MAX_SIZE


def is_number(value: object) -> TypeGuard[float]:
    """Checks whether a value is a number; true and false are none."""
    return type(value) in (int, float)


def is_rate(value: object) -> bool:
    """Checks whether a value is a number from 0 to below 1, as that of a dropout."""
    return is_number(value) and 0 <= value < 1
