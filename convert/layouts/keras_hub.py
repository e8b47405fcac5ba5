"""The layout of KerasHub's backbones: paths of layers and numbers of variables, heads as axes of their own.

Keras numbers layers of one class, so that the first has no number: ``layers/transformer_encoder``, ``layers/transformer_encoder_1``. In
``paths`` of an architecture file ``#{layer}`` stands for that number. Only architectures with a section ``[keras_hub]`` have
this layout.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.architectures.keras_hub_config import (
    write_keras_hub_config,
    write_keras_hub_task,
)
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core.errors import SpecError
from equipoise.convert.core.ops import Permute
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

FORMATS = {
    "keras-hub": Format(
        "keras-hub",
        "keras3",
        "model.weights.h5",
        splits=False,
        further_files={"task/": "task.weights.h5"},
    )
}

_WEIGHT, _BIAS = "vars/0", "vars/1"
_LAYER_NUMBER = re.compile(r"#(\d+)")
_KERAS_VERSION, _KERAS_HUB_VERSION = "3.15.1", "0.32.0"
"""Versions that the layout was compared with."""

SPELLINGS = {
    ("linear", "weight"): ParameterSpelling(_WEIGHT, (Permute((1, 0)),)),
    ("linear", "bias"): ParameterSpelling(_BIAS),
    ("hf_conv1d", "weight"): ParameterSpelling(_WEIGHT),
    ("hf_conv1d", "bias"): ParameterSpelling(_BIAS),
    ("conv1d", "weight"): ParameterSpelling(_WEIGHT, (Permute((2, 1, 0)),)),
    ("conv1d", "bias"): ParameterSpelling(_BIAS),
    ("conv2d", "weight"): ParameterSpelling(_WEIGHT, (Permute((2, 3, 1, 0)),)),
    ("conv2d", "bias"): ParameterSpelling(_BIAS),
    ("conv3d", "weight"): ParameterSpelling(_WEIGHT, (Permute((2, 3, 4, 1, 0)),)),
    ("conv3d", "bias"): ParameterSpelling(_BIAS),
    ("conv_transpose2d", "weight"): ParameterSpelling(_WEIGHT, (Permute((2, 3, 1, 0)),)),
    ("conv_transpose2d", "bias"): ParameterSpelling(_BIAS),
    ("embedding", "weight"): ParameterSpelling(_WEIGHT),
    ("param", ""): ParameterSpelling(""),
    ("norm", "weight"): ParameterSpelling(_WEIGHT),
    ("norm", "bias"): ParameterSpelling(_BIAS),
    ("rms_norm", "weight"): ParameterSpelling(_WEIGHT),
}


def _join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    return "/".join(part for part in (prefix, rest.replace(".", "/")) if part)


def number_layers(path: str) -> str:
    """Returns a path with the numbers that Keras gives to layers of one class.

    >>> number_layers("layers/transformer_encoder#0/vars/0"), number_layers("layers/transformer_encoder#12")
    ('layers/transformer_encoder/vars/0', 'layers/transformer_encoder_12')
    """
    return _LAYER_NUMBER.sub(lambda found: "" if found[1] == "0" else f"_{found[1]}", path)


DIALECT = Dialect("keras_hub", SPELLINGS, _join, "/", ties_by_config=False, strips_prefix=False)


def view(expansion: Expansion) -> LayoutView:
    """Returns how KerasHub names and stores the parameters."""
    built, _ = build_view(expansion, DIALECT)
    rules = (
        Rule(rule.sources, tuple(map(number_layers, rule.targets)), rule.ops)
        for rule in built.rules
    )
    return replace(built, rules=tuple(rules))


def decode(name: str, container: str, variant: str) -> str:
    """Returns the name unchanged."""
    return name


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the name unchanged."""
    return name


def config_files(model_type: str, class_name: str, config: Config, dtype: str) -> dict[str, str]:
    """Returns the texts of ``config.json`` and ``metadata.json`` of a preset, and of ``task.json`` for a class with a head.

    Raises:
        ArchitectureError: KerasHub's class computes something else than the config says.
        SpecError: There is no such architecture.
    """
    spec = load_spec(model_type)
    if spec is None:
        raise SpecError(f"no architecture file for {model_type!r}")
    values = write_keras_hub_config(spec, class_name, config, dtype)
    task = write_keras_hub_task(spec, class_name, config, dtype)
    versions = {"keras_version": _KERAS_VERSION, "keras_hub_version": _KERAS_HUB_VERSION}
    files = {
        "config.json": values,
        "metadata.json": versions,
        **({"task.json": task} if task else {}),
    }
    return {name: json.dumps(content, indent=4) + "\n" for name, content in files.items()}
