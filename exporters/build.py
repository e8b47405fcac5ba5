"""Makes one program of one model in one way. Runs in a worker process, where the framework is.

A crash, a hang or a lack of memory of an exporter ends that process and not the command.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters.patches.recurrences import patch_recurrences
from equipoise.exporters.patches.vilt import patch_vilt
from equipoise.exporters.target import ExportableModel, Target, argument_name


def build(
    target: str,
    way: str,
    folder: str,
    class_name: str,
    inputs: str,
    output: str,
    axes: Mapping[str, Mapping[str, str]],
    kwargs: Mapping[str, Any] | None = None,
    outputs: list[str] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    patch: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a program; gives its outputs, the time it took and what the target says of it.

    Args:
        target: The file that defines the target.
        way: One of its ways.
        folder: The model in PyTorch's layout.
        class_name: PyTorch's class.
        inputs: An ``.npz`` with example inputs.
        output: The file to write.
        axes: For each input the axes that vary (as text, for it came through JSON) and their names.
        kwargs: Plain values for the model's forward.
        outputs: Which outputs to keep; None: all tensors.
        dtype: Of the weights.
        device: Where the model lies while it is exported.
        patch: A file with ``patch(model)``, called before: for faults that are planted.
        options: What the target takes.
    """
    start = time.perf_counter()
    model, note = load_for_export(folder, class_name, dtype, device, patch)
    tensors = load_tensors(inputs, model)
    source = exportable_model(
        model, tensors, axes, dict(kwargs or {}), outputs, dict(options or {})
    )
    about = load_target(target).make(way, source, Path(output))
    shapes = {name: _describe_tensor(value) for name, value in run_example(source).items()}
    notes = [*about.pop("notes", []), *note]
    seconds = time.perf_counter() - start
    return {"outputs": shapes, "seconds": seconds, "notes": notes, **about}


def load_for_export(
    folder: str, class_name: str, dtype: str, device: str, patch: str
) -> tuple[Any, list[str]]:
    """The model as exporters get to see it, and what there is to note."""
    model = load_model(folder, class_name, dtype, device)
    notes = apply_patches(model)
    if patch:
        import runpy

        runpy.run_path(patch)["patch"](model)
    return model, notes


def load_model(folder: str, class_name: str, dtype: str, device: str) -> Any:
    """The model in evaluation mode, with the attention that the reference has too."""
    import torch
    import transformers

    torch.set_grad_enabled(False)
    wanted = getattr(torch, dtype)
    key = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    cls = getattr(transformers, class_name)
    model = cls.from_pretrained(folder, attn_implementation="eager", **{key: wanted})
    return model.to(device).eval()


def load_tensors(inputs: str, model: Any) -> dict[str, Any]:
    """The example as tensors, floating ones in the model's precision."""
    import torch

    tensors = {}
    with np.load(inputs) as stored:
        for name in stored.files:
            tensor = torch.from_numpy(stored[name].copy()).to(model.device)
            tensors[name] = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
    return tensors


def exportable_model(
    model: Any,
    tensors: dict[str, Any],
    axes: Mapping[str, Mapping[str, str]],
    kwargs: dict[str, Any],
    outputs: list[str] | None,
    options: dict[str, Any],
) -> ExportableModel:
    """The model as exporters get it."""
    if "use_cache" in _forward_parameters(model):
        kwargs = {"use_cache": False, **kwargs}
    module = with_named_io(model, list(tensors), kwargs, outputs)
    result = module(*tensors.values())
    return ExportableModel(
        module=module,
        model=model,
        tensors=tensors,
        axes={name: {int(axis): text for axis, text in axes[name].items()} for name in tensors},
        outputs=tuple(result),
        kwargs=kwargs,
        options=options,
    )


def with_named_io(
    model: Any, names: list[str], kwargs: Mapping[str, Any], outputs: list[str] | None = None
) -> Any:
    """A module with these positional inputs and a dict of tensors as its output."""

    def call(*args: Any, **given: Any) -> Any:
        values = {**dict(zip(names, args, strict=False)), **given}
        result = flatten_outputs(model(**values, **kwargs, return_dict=True))
        return {name: value for name, value in result.items() if outputs is None or name in outputs}

    return with_signature(model, names, call)


CACHE_OUTPUTS = ("past_key_values", "past_buckets_states", "mems")
"""Outputs that are state, not results."""


def flatten_outputs(result: Any) -> dict[str, Any]:
    """The tensors of nested outputs by dotted names, caches left out, each a tensor of its own.

    One tensor may be returned under two names; a graph's output has only one.
    """
    import torch

    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if torch.is_tensor(value):
            again = any(value is other for other in found.values())
            found[path] = value.clone() if again else value
        elif hasattr(value, "items") or isinstance(value, (list, tuple)):
            pairs = value.items() if hasattr(value, "items") else enumerate(value)
            for name, inner in pairs:
                if path or name not in CACHE_OUTPUTS:
                    walk(inner, f"{path}.{name}" if path else str(name))

    walk(result, "")
    return found


def with_signature(model: Any, names: list[str], call: Any) -> Any:
    """A module around a model whose forward is ``call`` with arguments of these names.

    Where a name has dots, the argument has underscores.
    """
    import torch

    whole = {argument_name(name): name for name in names}

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

            def forward(*args: Any, **kwargs: Any) -> Any:
                return call(*args, **{whole[name]: value for name, value in kwargs.items()})

            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            # Tracers take the inputs' names from the signature.
            forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
                [inspect.Parameter(name, kind) for name in whole]
            )
            self.forward = forward

    return Named().eval()


def _forward_parameters(model: Any) -> Any:
    return inspect.signature(model.forward).parameters


def apply_patches(model: Any) -> list[str]:
    """What is changed in a model before an exporter sees it; gives what there is to note."""
    return [*use_batched_experts(model), *patch_recurrences(model), *patch_vilt(model)]


def use_batched_experts(model: Any) -> list[str]:
    """Mixtures of experts compute all of them at once: exporters know no grouped product."""
    if not getattr(model, "_can_set_experts_implementation", lambda: False)():
        return []
    if not any("experts" in name for name, _ in model.named_modules()):
        return []
    model.set_experts_implementation("batched_mm")
    return ["experts are computed by batched_mm"]


def run_example(source: ExportableModel) -> dict[str, Any]:
    """What the example gives."""
    result: dict[str, Any] = source.module(*source.tensors.values())
    return result


def _describe_tensor(value: Any) -> dict[str, Any]:
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


def load_target(file: str) -> Target:
    """The target of a file."""
    spec = spec_from_file_location(f"target_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(file)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    target: Target = module.TARGET
    return target
