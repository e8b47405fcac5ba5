"""Types of option values: sizes and allowed losses."""

from __future__ import annotations

import re

import click

_UNITS = {
    "": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
    "b": 1,
}


class ByteSize(click.ParamType[int]):
    """A number of bytes: ``5GB``, ``500MB``, ``2GiB`` or plain bytes."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number of bytes."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower(), re.ASCII)
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no size; write it as 5GB, 500MB, 2GiB or in bytes", param, ctx)
        nbytes = int(float(found[1]) * _UNITS[found[2]])
        if nbytes < 1:
            self.fail(f"{value!r} is less than a byte", param, ctx)
        return nbytes


class Allowed(click.ParamType[tuple[str, str]]):
    """``NAME=REASON``: a tensor that may be lost, and why."""

    name = "name=reason"

    def convert(
        self,
        value: str | tuple[str, str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """The name and the reason."""
        if isinstance(value, tuple):
            return value
        tensor, _, reason = value.partition("=")
        if not tensor.strip() or not reason.strip():
            self.fail(f"{value!r} is not NAME=REASON; a reason is required", param, ctx)
        return tensor.strip(), reason.strip()
