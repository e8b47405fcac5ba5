"""Checks names, shapes and lists of headers for all containers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from equipoise.convert.core.arrays import DType
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import TensorHeader

MAX_AXES = 32
"""Largest number of axes; the limit of NumPy 1."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def check_name(name: str, file: Path) -> str:
    """Returns the name if it is safe in every container.

    Raises:
        ContainerError: It is empty, contains NUL, a lone surrogate or the path component ``..``.
    """
    problem = None
    if not name:
        problem = "a tensor's name is empty"
    elif "\0" in name:
        problem = "a tensor's name holds a NUL character"
    elif ".." in name.split("/"):
        problem = "a tensor's name holds the path component '..'"
    elif _SURROGATE.search(name):
        problem = "a tensor's name is not valid Unicode"
    if problem is not None:
        raise ContainerError(
            problem, file=file, found=ascii(name[:200]), hint="the file is corrupt or malicious"
        )
    return name


def check_next(name: str, due: str | None, file: Path) -> None:
    """Checks that a tensor is the one that a writer expects next.

    Raises:
        ContainerError: It is another, or none is left.
    """
    if name != due:
        raise ContainerError("a tensor is out of order", file=file, tensor=name, expected=repr(due))


def check_written(name: str, done: int, nbytes: int, file: Path) -> None:
    """Checks that a writer got as many bytes as a tensor has; it may stop at the first block beyond them.

    Raises:
        ContainerError: It got fewer or more.
    """
    if done != nbytes:
        raise ContainerError(
            "the bytes do not match the tensor's shape",
            file=file,
            tensor=name,
            expected=f"{nbytes} bytes",
            found=f"{done} bytes" if done < nbytes else "more",
        )


def check_shape(values: object, dtype: DType, *, file: Path, tensor: str) -> tuple[int, ...]:
    """Returns the shape as a tuple if NumPy can hold such a tensor of ``dtype``.

    Raises:
        ContainerError: It is not a list of sizes, has too many axes, or more bytes than can be addressed.
    """
    if not isinstance(values, (list, tuple)) or any(type(size) is not int for size in values):
        raise ContainerError(
            "the shape is not a list of integers",
            file=file,
            tensor=tensor,
            found=repr(values)[:200],
        )
    # An axis of size 0 must not hide other sizes that NumPy does not support.
    volume = math.prod(size or 1 for size in values) if len(values) <= MAX_AXES else -1
    if any(size < 0 for size in values) or not 0 < volume * dtype.itemsize < 2**63:
        raise ContainerError(
            "the shape is out of range",
            file=file,
            tensor=tensor,
            expected=f"at most {MAX_AXES} axes of non-negative sizes, less than 2**63 bytes",
            found=repr(values)[:200],
        )
    return tuple(values)


def byte_size(shape: Sequence[int], dtype: DType) -> int:
    """Returns the bytes of a tensor."""
    return math.prod(shape) * dtype.itemsize


def check_headers(
    headers: Sequence[TensorHeader], path: Path, *, shares: bool, has_groups: bool = False
) -> None:
    """Checks headers before they are written: names, shapes and aliases.

    Args:
        headers: The headers to be written.
        path: The file, for the message.
        shares: Whether the container can store one tensor under two names.
        has_groups: Whether the container has groups, each with names of its own.

    Raises:
        ContainerError: A name is unsafe or duplicated, or an alias does not match its original.
    """
    keys: set[str | tuple[str, str]] = set()
    owners: dict[str, TensorHeader] = {}
    for header in headers:
        check_name(header.name, path)
        check_shape(header.shape, header.dtype, file=path, tensor=header.name)
        owner = header
        if header.alias_of is not None:
            owner = _alias_owner(header, owners, path, shares=shares)
        key = (header.group, header.name) if has_groups else header.name
        if key in keys or owners.setdefault(header.name, owner) is not owner:
            raise ContainerError("two tensors have the same name", file=path, tensor=header.name)
        keys.add(key)


def _alias_owner(
    header: TensorHeader, owners: dict[str, TensorHeader], path: Path, *, shares: bool
) -> TensorHeader:
    """Returns the header whose bytes an alias shares."""
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
