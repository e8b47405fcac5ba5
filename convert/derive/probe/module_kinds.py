"""Classifies PyTorch modules by kind and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.convert.architectures.module_kinds import MODULE_KINDS, WEIGHT_NORM_LEAVES
from equipoise.convert.core.framework_types import TorchModule
from equipoise.convert.derive.probe.observations import ObservedModule


def classify_module(
    path: str, module: TorchModule, files: Mapping[str, str]
) -> tuple[str, ObservedModule, list[str]] | None:
    """Returns a module's path in files, its kind with sizes, and its tensors there; None if it has no kind.

    Args:
        path: Its path in the model.
        module: The module.
        files: Name in the model -> name in files.
    """
    found = _classify(module)
    if found is None:
        return None
    leaves = {leaf: _join_path(path, WEIGHT_NORM_LEAVES.get(leaf, leaf)) for leaf in found.leaves()}
    if not all(name in files for name in leaves.values()):
        return None
    prefixes = {
        files[name].removesuffix(WEIGHT_NORM_LEAVES.get(leaf, leaf))
        if files[name].endswith(f".{WEIGHT_NORM_LEAVES.get(leaf, leaf)}")
        else files[name].removesuffix(leaf)
        for leaf, name in leaves.items()
    }
    (prefix, *others) = prefixes
    if others or not prefix.endswith("."):
        return None
    return prefix.removesuffix("."), found, [files[name] for name in leaves.values()]


def module_kind(module: TorchModule) -> str | None:
    """Returns the kind of a module, a key of ``MODULE_KINDS``; None if it has none."""
    found = _classify(module)
    return found.kind if found else None


def _join_path(path: str, leaf: str) -> str:
    return f"{path}.{leaf}" if path else leaf


def _classify(module: TorchModule) -> ObservedModule | None:
    """Returns the kind of a module by its class, if its parameters are those of the kind."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if hasattr(module, "parametrizations"):  # reading its weight would compute the parametrization
        return _classify_weight_norm(module)
    weight = getattr(module, "weight", None)
    if weight is None or not hasattr(weight, "shape"):
        return None
    shape = tuple(weight.shape)
    if isinstance(module, nn.Linear) and len(shape) == 2:
        return _observed_module(module, "linear", {"inputs": shape[1], "outputs": shape[0]})
    if isinstance(module, Conv1D):
        return _observed_module(module, "hf_conv1d", {"inputs": shape[0], "outputs": shape[1]})
    if isinstance(module, nn.Embedding):
        return _observed_module(module, "embedding", {"count": shape[0], "width": shape[1]})
    if isinstance(module, nn.modules.conv._ConvNd):
        return _classify_convolution(module, shape)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _observed_module(module, "batch_norm", {"width": shape[0]})
    if "Norm" in type(module).__name__ and len(shape) == 1:
        native = isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d))
        own = dict(module.named_parameters(recurse=False))
        rms = not native and set(own) == {"weight"}
        return _observed_module(module, "rms_norm" if rms else "norm", {"width": shape[0]})
    return None


def _classify_convolution(module: TorchModule, shape: tuple[int, ...]) -> ObservedModule | None:
    from torch import nn

    groups = int(module.groups)
    axes = ("depth", "height", "width")[5 - len(shape) :] if len(shape) > 3 else ("size",)
    window = dict(zip(axes, shape[2:], strict=True))
    if isinstance(module, (nn.ConvTranspose2d,)):
        sizes = {"inputs": shape[0], "outputs": shape[1] * groups, **window, "groups": groups}
        return _observed_module(module, "conv_transpose2d", sizes)
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose3d)):
        return None
    sizes = {"inputs": shape[1] * groups, "outputs": shape[0], **window, "groups": groups}
    return _observed_module(module, f"conv{len(shape) - 2}d", sizes)


def _classify_weight_norm(module: TorchModule) -> ObservedModule | None:
    """Returns the kind of a convolution with weight normalisation, one magnitude for each kernel position."""
    from torch import nn

    weight = getattr(module.parametrizations, "weight", None)
    parts: list[Any] = [getattr(weight, f"original{number}", None) for number in (0, 1)]
    if (
        not isinstance(module, nn.Conv1d)
        or any(one is None for one in parts)
        or module.bias is None
    ):
        return None
    magnitude, direction = (tuple(one.shape) for one in parts)
    groups = int(module.groups)
    if magnitude != (1, 1, direction[-1]):
        return None
    sizes = {"inputs": direction[1] * groups, "outputs": direction[0], "size": direction[2]}
    return ObservedModule("weight_norm_conv1d", tuple({**sizes, "groups": groups}.items()))


def _observed_module(
    module: TorchModule, kind: str, sizes: Mapping[str, int]
) -> ObservedModule | None:
    """Returns a module of this kind, or None if its tensors are not those of the kind."""
    own = {name for name, one in module.named_parameters(recurse=False) if one is not None}
    if kind == "batch_norm":
        own |= {name for name, one in module.named_buffers(recurse=False) if one is not None}
    bias = "bias" in own if "bias" in MODULE_KINDS[kind].switches else None
    found = ObservedModule(kind, tuple(sizes.items()), bias)
    return found if own == set(found.leaves()) else None
