"""What every container checks of a name, a shape and a list of headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorHeader

MAX_AXES = 32
"""Most axes of a tensor; numpy 1 stops here."""


def check_name(name: str, file: Path) -> str:
    """The name, when it can travel safely into any other container.

    Raises:
        ContainerError: It is empty, holds NUL or half a surrogate pair, or climbs with ``..``.
    """
    problem = None
    if not name:
        problem = "a tensor's name is empty"
    elif "\0" in name:
        problem = "a tensor's name holds a NUL character"
    elif ".." in name.split("/"):
        problem = "a tensor's name holds the path component '..'"
    elif any("\ud800" <= char <= "\udfff" for char in name):
        problem = "a tensor's name is not valid Unicode"
    if problem is not None:
        raise ContainerError(
            problem, file=file, found=ascii(name[:200]), hint="the file is corrupt or malicious"
        )
    return name


def check_shape(values: object, dtype: DType, *, file: Path, tensor: str) -> tuple[int, ...]:
    """The shape as a tuple, when numpy can hold such a tensor of ``dtype``.

    Raises:
        ContainerError: Not a list of sizes, too many axes, or more bytes than can be addressed.
    """
    if not isinstance(values, (list, tuple)) or any(type(size) is not int for size in values):
        raise ContainerError(
            "the shape is not a list of integers",
            file=file,
            tensor=tensor,
            found=repr(values)[:200],
        )
    # An axis of size 0 must not hide sizes beside it that numpy cannot take.
    volume = math.prod(size or 1 for size in values) if len(values) <= MAX_AXES else -1
    if any(size < 0 for size in values) or not 0 < volume * dtype.itemsize < 2**63:
        raise ContainerError(
            "the shape is absurd",
            file=file,
            tensor=tensor,
            expected=f"at most {MAX_AXES} axes of sizes from 0 on, less than 2**63 bytes",
            found=repr(values)[:200],
        )
    return tuple(values)


def byte_size(shape: Sequence[int], dtype: DType) -> int:
    """Bytes of a tensor in C order."""
    return math.prod(shape) * dtype.itemsize


def check_headers(headers: Sequence[TensorHeader], path: Path, *, shares: bool) -> None:
    """Refuses headers that no reader would take back.

    Args:
        headers: What a writer is asked to write.
        path: The file, for the message.
        shares: Whether the container can hold one tensor under two names, or in two groups.

    Raises:
        ContainerError: A name is unsafe or comes twice, or an alias does not fit its original.
    """
    places: set[tuple[str, str]] = set()
    owners: dict[str, TensorHeader] = {}
    for header in headers:
        check_name(header.name, path)
        check_shape(header.shape, header.dtype, file=path, tensor=header.name)
        owner = header
        if header.alias_of is not None:
            owner = _alias_owner(header, owners, path, shares=shares)
        place = (header.group if shares else "", header.name)
        if place in places or owners.setdefault(header.name, owner) is not owner:
            raise ContainerError("two tensors have one name", file=path, tensor=header.name)
        places.add(place)


def _alias_owner(
    header: TensorHeader, owners: dict[str, TensorHeader], path: Path, *, shares: bool
) -> TensorHeader:
    """The header whose bytes an alias shares."""
    if not shares:
        raise ContainerError(
            "this container cannot hold one tensor under two names",
            file=path,
            tensor=header.name,
            hint=f"leave it out, or write its bytes again (it is the same as {header.alias_of!r})",
        )
    original = owners.get(header.alias_of or "")
    if original is None or (original.dtype, original.shape) != (header.dtype, header.shape):
        raise ContainerError(
            "an alias needs an earlier tensor of the same dtype and shape",
            file=path,
            tensor=header.name,
            expected=f"{header.alias_of!r} with {header.dtype} {list(header.shape)}",
            found="no such tensor" if original is None else str(original),
        )
    return original
