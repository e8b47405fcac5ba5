"""Which targets can be used here, and what to install where one cannot."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from sys import executable

from equipoise.convert.core.errors import InputError
from equipoise.exporters.base import Target, find_target, target_names
from equipoise.validators.pythons import python_of

OLDEST_OPSET = 18
"""The exporters of PyTorch write this one or newer; a converter to older ones gives up without a word."""


OF_ONNX = {
    "opset": "opset",
    "external": "data outside its file",
    "optimize": "graph that ONNX Runtime could rewrite",
    "max_shard_size": "data outside its file",
    "merged": "graphs that could be merged",
}
"""Options that ONNX alone has, and what they are about."""


def usable_target(name: str) -> tuple[Target, str]:
    """A target and its file.

    Raises:
        InputError: There is none of that name.
    """
    try:
        return find_target(name)
    except KeyError:
        raise InputError("no such target", found=name, expected=", ".join(target_names())) from None


def assert_usable(target: Target, options: Mapping[str, object], chosen: Mapping[str, str]) -> None:
    """Refuses a target whose packages are missing, and options that it cannot meet.

    Raises:
        InputError: The message says what to install or to change.
    """
    if python_of("pytorch", chosen) == Path(executable):
        missing = [name for name in target.needs if find_spec(name) is None]
        if missing:
            raise InputError(
                f"the target {target.name!r} needs {', '.join(missing)}",
                hint=f"pip install 'equipoise[{target.extra}]'",
            )
    for name, text in OF_ONNX.items():
        if options.get(name) and target.name != "onnx":
            raise _none(target, name, text)
    if options.get("quantize") and not getattr(target, "quantizes", False):
        raise _none(target, "quantize", "weights of eight bits")
    opset = options.get("opset")
    if opset is not None and int(str(opset)) < OLDEST_OPSET:
        raise InputError(
            "the opset is too old for PyTorch's exporter",
            found=f"opset {opset}",
            expected=f"{OLDEST_OPSET} or newer",
        )


def _none(target: Target, name: str, text: str) -> InputError:
    return InputError(f"{target.name} has no {text}", hint=f"leave {_flag(name)} away")


def _flag(name: str) -> str:
    return "--external-data" if name == "external" else f"--{name.replace('_', '-')}"
