"""Finds export targets and checks that their packages and options can be used here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from sys import executable

from equipoise.convert.conversion.routes import all_formats
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean, install_hint
from equipoise.convert.layouts import layout_names
from equipoise.exporters.artifact_files import TRANSFORMERS_JS, WEB_SUFFIXES
from equipoise.exporters.target import Target, find_target, has_fixed_sizes, target_names
from equipoise.validators.runtime.interpreters import find_interpreter

MIN_OPSET = 18
"""PyTorch's exporter writes this opset or newer; its converter to older ones gives up without an error."""

_CONVERT_INSTEAD = (
    "a checkpoint for another framework is written by `equipoise convert SOURCE OUTPUT --to ...`"
)

ONNX_ONLY_OPTIONS = {
    "opset": "opset",
    "external": "data outside its file",
    "optimize": "graph that ONNX Runtime could rewrite",
    "max_shard_size": "data outside its file",
    "merged": "graphs that could be merged",
    "layout": "layout for transformers.js",
}
"""Options that only ONNX has -> what they are about."""


def resolve_target(name: str) -> Target:
    """Returns a target by its name, or by the path of a user's file that defines one.

    Raises:
        InputError: There is no such target.
    """
    try:
        return find_target(name)
    except (KeyError, FileNotFoundError):
        raise InputError(
            "no such target",
            found=name,
            expected=", ".join(target_names()),
            hint=_CONVERT_INSTEAD
            if name in (*layout_names(), *all_formats())
            else did_you_mean(name, target_names()),
        ) from None


def check_target(
    target: Target, options: Mapping[str, object], interpreters: Mapping[str, str]
) -> None:
    """Checks that the packages of a target are installed and that it supports these options.

    Args:
        target: The target.
        options: Options of the export.
        interpreters: Interpreters chosen by the user, see :func:`find_interpreter`.

    Raises:
        InputError: The message says what to install or to change.
    """
    if find_interpreter("pytorch", interpreters) == Path(executable):
        missing = [name for name in target.needs if find_spec(name) is None]
        if missing:
            raise InputError(
                f"the target {target.name!r} needs {', '.join(missing)}",
                hint=install_hint(*target.extra.split(",")),
            )
    for name, subject in ONNX_ONLY_OPTIONS.items():
        if options.get(name) and target.name != "onnx":
            raise _unsupported(target, name, subject)
    if options.get("quantize") and not getattr(target, "quantizes", False):
        raise _unsupported(target, "quantize", "int8 weights")
    opset = options.get("opset")
    if opset is not None and int(str(opset)) < MIN_OPSET:
        raise InputError(
            "the opset is too old for PyTorch's exporter",
            found=f"opset {opset}",
            expected=f"{MIN_OPSET} or newer",
        )


def check_layout(options: Mapping[str, object], precision: str) -> None:
    """Checks that a layout has a file name for a precision.

    Raises:
        InputError: transformers.js has none.
    """
    if options.get("layout") == TRANSFORMERS_JS and precision not in WEB_SUFFIXES:
        raise InputError(
            "transformers.js loads no graph of this precision",
            found=precision,
            expected="float32 or float16 (--dtype fp32, fp16), or --quantize int8-dynamic",
        )


def check_dynamic(target: Target, names: Collection[str]) -> None:
    """Checks that the programs of a target can have dynamic axes.

    Raises:
        InputError: They take the sizes of the example only.
    """
    if names and has_fixed_sizes(target):
        raise InputError(
            f"a program of {target.name} takes inputs of one size",
            found=", ".join(f"--{name} dynamic" for name in names),
            hint="give sizes, or choose another target, such as onnx or saved-model",
        )


def _unsupported(target: Target, name: str, subject: str) -> InputError:
    return InputError(f"{target.name} has no {subject}", hint=f"leave out {_option_name(name)}")


def _option_name(name: str) -> str:
    return "--external-data" if name == "external" else f"--{name.replace('_', '-')}"
