"""Module kinds (linear, conv2d, norm ...): a kind determines a module's parameters and their shapes in PyTorch.

Each layout maps the parameters of a kind to its own names; see ``convert/layouts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModuleKind:
    """A kind of module.

    Attributes:
        arguments: Names of the sizes that an architecture file gives, in order.
        leaves: Shape of each parameter in PyTorch's axis order, as expressions over the arguments. The
            leaf ``""`` stands for a parameter without a module of its own.
        switches: Keyword arguments with their defaults; ``bias=False`` drops the leaf ``bias``.
        integers: Leaves that only PyTorch stores, with their dtype: counters that start at zero, unless the
            architecture file names a generator.
    """

    arguments: tuple[str, ...]
    leaves: Mapping[str, tuple[str, ...]]
    switches: Mapping[str, object] = field(default_factory=dict)
    integers: Mapping[str, str] = field(default_factory=dict)


WEIGHT_NORM_LEAVES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
"""Names of weight norm in torch < 2.1 -> names since torch 2.1, which stores it as a parametrization."""

_CONV_SWITCHES = {"groups": 1, "bias": True}

MODULE_KINDS: dict[str, ModuleKind] = {
    "linear": ModuleKind(
        ("inputs", "outputs"),
        {"weight": ("outputs", "inputs"), "bias": ("outputs",)},
        {"bias": True},
    ),
    # transformers' own Conv1D (GPT-2): a linear layer whose weight is stored transposed.
    "hf_conv1d": ModuleKind(
        ("inputs", "outputs"), {"weight": ("inputs", "outputs"), "bias": ("outputs",)}
    ),
    "conv1d": ModuleKind(
        ("inputs", "outputs", "size"),
        {"weight": ("outputs", "inputs // groups", "size"), "bias": ("outputs",)},
        _CONV_SWITCHES,
    ),
    "conv2d": ModuleKind(
        ("inputs", "outputs", "height", "width"),
        {"weight": ("outputs", "inputs // groups", "height", "width"), "bias": ("outputs",)},
        _CONV_SWITCHES,
    ),
    "conv3d": ModuleKind(
        ("inputs", "outputs", "depth", "height", "width"),
        {
            "weight": ("outputs", "inputs // groups", "depth", "height", "width"),
            "bias": ("outputs",),
        },
        _CONV_SWITCHES,
    ),
    "conv_transpose2d": ModuleKind(
        ("inputs", "outputs", "height", "width"),
        {"weight": ("inputs", "outputs // groups", "height", "width"), "bias": ("outputs",)},
        _CONV_SWITCHES,
    ),
    # A convolution with weight normalisation: direction * magnitude, one magnitude for each kernel position.
    "weight_norm_conv1d": ModuleKind(
        ("inputs", "outputs", "size"),
        {
            "weight_g": ("1", "1", "size"),
            "weight_v": ("outputs", "inputs // groups", "size"),
            "bias": ("outputs",),
        },
        _CONV_SWITCHES,
    ),
    "embedding": ModuleKind(("count", "width"), {"weight": ("count", "width")}),
    "norm": ModuleKind(("width",), {"weight": ("width",), "bias": ("width",)}, {"bias": True}),
    "rms_norm": ModuleKind(("width",), {"weight": ("width",)}),
    "batch_norm": ModuleKind(
        ("width",),
        {
            "weight": ("width",),
            "bias": ("width",),
            "running_mean": ("width",),
            "running_var": ("width",),
            "num_batches_tracked": (),
        },
        integers={"num_batches_tracked": "int64"},
    ),
    # A bare parameter; its shape is the list of arguments.
    "param": ModuleKind((), {"": ()}),
    # An integer buffer that is never copied: each framework's values are computed.
    "integers": ModuleKind((), {"": ()}, integers={"": "int64"}),
}
