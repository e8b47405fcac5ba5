"""Types of arguments and option values: paths, sources, sizes, durations, and pairs of name and value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import click

_UNITS = {
    "": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
    "b": 1,
}


_EMPTY_PATH = "the path is empty; write . for the folder that you are in"
"""An empty word is mostly a variable of a shell that is not set."""


class PathName(click.Path):
    """A path; an empty word is none, although ``Path("")`` is the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Returns the path."""
        if not os.fspath(value):
            self.fail(_EMPTY_PATH, param, ctx)
        return super().convert(value, param, ctx)


class SourceName(click.ParamType[str]):
    """A path, an id of the Hub or a URL; an empty word is none of them."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the word."""
        if not value:
            self.fail(_EMPTY_PATH, param, ctx)
        return value


def _number_with_unit(value: object, units: Mapping[str, int]) -> float | None:
    """Returns a number times its unit; None if it is no number with one of these units."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower(), re.ASCII)
    if found is None or found[2] not in units:
        return None
    return float(found[1]) * units[found[2]]


class ByteSize(click.ParamType[int]):
    """A number of bytes: ``5GB``, ``500MB``, ``2GiB`` or plain bytes."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Returns the number of bytes."""
        number = _number_with_unit(value, _UNITS)
        if number is None:
            self.fail(
                f"{value!r} is not a size; use 5GB, 500MB, 2GiB or a number of bytes", param, ctx
            )
        nbytes = int(number)
        if nbytes < 1:
            self.fail(f"{value!r} is less than a byte", param, ctx)
        return nbytes


_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """A number of seconds: ``120s``, ``5m``, ``1.5h`` or plain seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the number of seconds."""
        seconds = _number_with_unit(value, _SECONDS)
        if not seconds:
            self.fail(
                f"{value!r} is not a duration; use 120s, 5m or a number of seconds", param, ctx
            )
        return seconds


class NameValue(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``.

    Args:
        value_name: What the value is called in help texts and messages.
        strip: Whether spaces around name and value are removed.
    """

    def __init__(self, value_name: str = "value", *, strip: bool = False) -> None:
        self.name = f"name={value_name}"
        self._value_name = value_name
        self._strip = strip

    def convert(
        self,
        value: str | tuple[str, str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Returns the name and the value."""
        if isinstance(value, tuple):
            return value
        name, _, rest = value.partition("=")
        if self._strip:
            name, rest = name.strip(), rest.strip()
        if not name or not rest:
            what = self._value_name
            self.fail(f"{value!r} is not NAME={what.upper()}; a {what} is required", param, ctx)
        return name, rest


def pairs_as_dict(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Returns the pairs of an option that can be repeated as a dict; a click callback."""
    return dict(pairs)
