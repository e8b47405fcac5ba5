"""Wraps a model in a module whose inputs and outputs have names, as tracers need it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from equipoise.convert.core.framework_types import TorchModel, TorchModule, TorchTensor
from equipoise.exporters.cache_names import is_state
from equipoise.exporters.target import ExportableModel, argument_name


def with_named_io(
    model: TorchModel,
    names: list[str],
    kwargs: Mapping[str, Any],
    outputs: Collection[str] | None = None,
) -> TorchModule:
    """Returns a module with these positional inputs and a dict of tensors as its output.

    Args:
        model: The model.
        names: Names of the inputs in their order.
        kwargs: Further keyword arguments of the model's forward.
        outputs: Names of the outputs to keep; None keeps all tensors.
    """

    def call(*args: Any, **inputs: Any) -> dict[str, TorchTensor]:
        values = {**dict(zip(names, args, strict=False)), **inputs}
        result = flatten_outputs(model(**values, **kwargs, return_dict=True))
        return {name: value for name, value in result.items() if outputs is None or name in outputs}

    return with_signature(model, names, call)


def with_signature(
    model: TorchModel, names: list[str], call: Callable[..., dict[str, TorchTensor]]
) -> TorchModule:
    """Returns a module around a model whose forward is ``call`` with arguments of these names.

    Tracers take the names of inputs from the signature. Dots in names become underscores there.
    """
    import torch

    arguments = {argument_name(name): name for name in names}

    class NamedModule(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

            def forward(*args: Any, **kwargs: Any) -> Any:
                return call(*args, **{arguments[name]: value for name, value in kwargs.items()})

            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
                [inspect.Parameter(name, kind) for name in arguments]
            )
            self.forward = forward

    return NamedModule().eval()


def flatten_outputs(result: Any) -> dict[str, TorchTensor]:
    """Returns the tensors of nested outputs by dotted names, without caches.

    A model may return one tensor under two names, but an output of a graph has one name only: the second one is
    a copy.
    """
    import torch

    flat: dict[str, TorchTensor] = {}

    def visit(value: Any, path: str) -> None:
        if torch.is_tensor(value):
            is_repeated = any(value is other for other in flat.values())
            flat[path] = value.clone() if is_repeated else value
        elif hasattr(value, "items") or isinstance(value, (list, tuple)):
            pairs = value.items() if hasattr(value, "items") else enumerate(value)
            for name, inner in pairs:
                if path or not is_state(str(name)):
                    visit(inner, f"{path}.{name}" if path else str(name))

    visit(result, "")
    return flat


def forward_parameters(model: TorchModel) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of the model's forward by name."""
    return inspect.signature(model.forward).parameters


def run_example(model: ExportableModel) -> dict[str, TorchTensor]:
    """Returns the outputs for the example inputs."""
    outputs: dict[str, TorchTensor] = model.module(*model.tensors.values())
    return outputs


def describe_outputs(model: ExportableModel) -> dict[str, dict[str, Any]]:
    """Returns dtype and shape of the outputs by name: an axis that grows with a dynamic axis of the inputs has that axis's name.

    Each dynamic axis is made one longer and the model is run again. Example: with a batch of 4 instead of 3 logits are
    (4, 2) instead of (3, 2), so they are ``["batch_size", 2]``. A model that takes no such inputs keeps the sizes of the example.
    """
    example = run_example(model)
    shapes: dict[str, list[int | str]] = {name: list(one.shape) for name, one in example.items()}
    for symbol in sorted({one for axes in model.axes.values() for one in axes.values()}):
        tensors = {
            name: _longer(value, [axis for axis, one in model.axes[name].items() if one == symbol])
            for name, value in model.tensors.items()
        }
        longer: dict[str, TorchTensor] = {}
        with suppress(Exception):  # whatever a model raises for a size that it does not take
            longer = run_example(replace(model, tensors=tensors))
        # A model may return an output for each row of a batch: those of the example are described.
        for name in example.keys() & longer.keys():
            sizes = zip(example[name].shape, longer[name].shape, strict=False)
            for axis, (before, after) in enumerate(sizes):
                if after == before + 1:
                    shapes[name][axis] = symbol
    return {
        name: {"dtype": str(one.dtype).removeprefix("torch."), "shape": shapes[name]}
        for name, one in example.items()
    }


def _longer(tensor: TorchTensor, axes: Sequence[int]) -> TorchTensor:
    """Returns a tensor whose last entries along some axes are there twice."""
    import torch

    for axis in axes:
        tensor = torch.cat([tensor, tensor.narrow(axis, tensor.shape[axis] - 1, 1)], axis)
    return tensor
