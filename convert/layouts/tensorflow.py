"""The layout of TensorFlow (Keras classes of transformers 4): names joined by slashes, output axis last.

Stored names here lack the model's own name and the ``:0`` of variables: ``bert/encoder/layer_._0/output/dense/kernel``.
What files add to them follows ``save_pretrained`` in ``modeling_tf_utils.py`` of transformers 4.57.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.core.ops import AddAxis, Permute
from equipoise.convert.core.rules import Rule
from equipoise.convert.layouts._overrides import LayoutOverrides
from equipoise.convert.layouts._view_builder import Dialect, build_view
from equipoise.convert.layouts.base import Format, LayoutView, ParameterSpelling

_T = TypeVar("_T")

FORMATS = {
    "tensorflow-h5": Format("tensorflow-h5", "keras_hdf5", "tf_model.h5"),
    "tensorflow-safetensors": Format(
        "tensorflow-safetensors", "safetensors", "model.safetensors", {"format": "tf"}
    ),
    "tensorflow-checkpoint": Format(
        "tensorflow-checkpoint", "tensor_bundle", "model.ckpt", writable=False
    ),
}

SPELLINGS = {
    ("linear", "weight"): ParameterSpelling("kernel", (Permute((1, 0)),)),
    ("linear", "bias"): ParameterSpelling("bias"),
    ("hf_conv1d", "weight"): ParameterSpelling("weight"),
    ("hf_conv1d", "bias"): ParameterSpelling("bias", (AddAxis(0),)),
    ("conv1d", "weight"): ParameterSpelling("kernel", (Permute((2, 1, 0)),)),
    ("conv1d", "bias"): ParameterSpelling("bias"),
    ("conv2d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 1, 0)),)),
    ("conv2d", "bias"): ParameterSpelling("bias"),
    ("conv3d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 4, 1, 0)),)),
    ("conv3d", "bias"): ParameterSpelling("bias"),
    ("conv_transpose2d", "weight"): ParameterSpelling("kernel", (Permute((2, 3, 1, 0)),)),
    ("conv_transpose2d", "bias"): ParameterSpelling("bias"),
    ("weight_norm_conv1d", "weight_g"): ParameterSpelling("weight_g", (Permute((2, 0, 1)),)),
    ("weight_norm_conv1d", "weight_v"): ParameterSpelling("weight_v"),
    ("weight_norm_conv1d", "bias"): ParameterSpelling("bias"),
    ("embedding", "weight"): ParameterSpelling("embeddings"),
    ("norm", "weight"): ParameterSpelling("gamma"),
    ("norm", "bias"): ParameterSpelling("beta"),
    ("rms_norm", "weight"): ParameterSpelling("weight"),
    ("batch_norm", "weight"): ParameterSpelling("gamma"),
    ("batch_norm", "bias"): ParameterSpelling("beta"),
    ("batch_norm", "running_mean"): ParameterSpelling("moving_mean"),
    ("batch_norm", "running_var"): ParameterSpelling("moving_variance"),
    ("param", ""): ParameterSpelling(""),
    ("integers", ""): ParameterSpelling("", dtype="int32"),
}


def _join(prefix: str, rest: str, overrides: LayoutOverrides) -> str:
    """Returns PyTorch's path with slashes; a number is joined to the preceding name, as in TensorFlow's layer names."""
    mark = overrides.get("indices", "_._")
    path = prefix
    for part in rest.split(".") if rest else []:
        if part.isdigit() and path:
            path = f"{path}{mark}{part}"
        else:
            path = f"{path}/{part}" if path else part
    return path


DIALECT = Dialect("tensorflow", SPELLINGS, _join, "/", ties_by_config=False, strips_prefix=False)


def view(expansion: Expansion) -> LayoutView:
    """Returns how TensorFlow names and stores the parameters."""
    built, overrides = build_view(expansion, DIALECT)
    names = [name for rule in built.rules for name in rule.targets]
    prefix = overrides.get("groups", {})
    groups = {name: _entry_for_first_component(prefix, name, name.split("/")[0]) for name in names}
    groups |= {name: group for name, group in built.groups.items() if name in groups}
    also_in = {
        group: tuple(name for name in names if name.startswith(f"{path}/"))
        for group, path in overrides.get("also_in", {}).items()
        if group in groups.values()
    }
    roots = overrides.get("roots", {})
    return replace(
        built,
        aliases=_aliases(built.rules, expansion),
        groups=groups,
        also_in=also_in,
        root=_snake_case(expansion.cls.names.get("tensorflow", f"TF{expansion.cls.name}")),
        roots={
            name: root
            for name in names
            if (root := _entry_for_first_component(roots, name, built.roots.get(name))) is not None
        },
    )


def _entry_for_first_component(table: Mapping[str, str], name: str, default: _T) -> str | _T:
    """Returns the entry for a name's first component; keys may be templates."""
    first = name.partition("/")[0]
    if first in table:
        return table[first]
    found = (
        value for key, value in table.items() if name_templates.match_name(key, first) is not None
    )
    return next(found, default)


def _aliases(rules: Iterable[Rule], expansion: Expansion) -> dict[str, str]:
    """Returns aliases of embeddings, named ``weight`` in some releases of transformers and ``embeddings`` in others."""
    found = {}
    for rule in rules:
        parameter = expansion.parameters.get(rule.sources[0])
        if parameter and parameter.kind == "embedding" and len(rule.targets) == 1:
            path, _, leaf = rule.targets[0].rpartition("/")
            found[f"{path}/{'weight' if leaf == 'embeddings' else 'embeddings'}"] = rule.targets[0]
    return found


def _snake_case(name: str) -> str:
    """Returns the layer name that Keras makes from a class name (``to_snake_case`` of ``tf_keras``).

    >>> _snake_case("TFBertForMaskedLM"), _snake_case("TFT5EncoderModel")
    ('tf_bert_for_masked_lm', 'tft5_encoder_model')
    """
    spaced = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()


def decode(name: str, container: str, variant: str) -> str:
    """Returns the name without the model's name and ``:0``.

    Sharded HDF5 and safetensors omit the model's name unless it contains "model.", as in
    ``model.shared/model.shared/embeddings:0``; single HDF5 files and checkpoints always have it.
    """
    bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
    first, slash, rest = bare.partition("/")
    has_root = variant in ("keras", "object-based") or "model." in first
    return rest if has_root and slash else bare


def encode(name: str, container: str, variant: str, target: LayoutView | None) -> str:
    """Returns the name with ``:0``, and with the model's name if the container has it."""
    root = target.roots.get(name, target.root) if target else "model"
    full = f"{root}/{name}:0" if root else f"{name}:0"
    # transformers 4.57.6 drops the first component of names without "model." (strip_model_name_and_prefix).
    keeps_root = (container == "keras_hdf5" and variant == "keras") or "model." in root
    return full if keeps_root else f"{name}:0"
