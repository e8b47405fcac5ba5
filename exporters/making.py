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

from equipoise.exporters.base import Source, Target, argument_name
from equipoise.exporters.every_patch import with_every_patch
from equipoise.exporters.kv_cache import is_state
from equipoise.exporters.scanning import as_scan


def make(
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
    model, note = opened(folder, class_name, dtype, device, patch)
    tensors = tensors_of(inputs, model)
    source = source_of(model, tensors, axes, dict(kwargs or {}), outputs, dict(options or {}))
    about = target_of(target).make(way, source, Path(output))
    shapes = {name: _described(value) for name, value in first(source).items()}
    notes = [*about.pop("notes", []), *note]
    seconds = time.perf_counter() - start
    return {"outputs": shapes, "seconds": seconds, "notes": notes, **about}


def opened(
    folder: str, class_name: str, dtype: str, device: str, patch: str
) -> tuple[Any, list[str]]:
    """The model as exporters get to see it, and what there is to note."""
    model = loaded(folder, class_name, dtype, device)
    notes = prepared(model)
    if patch:
        import runpy

        runpy.run_path(patch)["patch"](model)
    return model, notes


def loaded(folder: str, class_name: str, dtype: str, device: str) -> Any:
    """The model in evaluation mode, with the attention that the reference has too."""
    import torch
    import transformers

    torch.set_grad_enabled(False)
    wanted = getattr(torch, dtype)
    key = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    cls = getattr(transformers, class_name)
    model = cls.from_pretrained(folder, attn_implementation="eager", **{key: wanted})
    return model.to(device).eval()


def tensors_of(inputs: str, model: Any) -> dict[str, Any]:
    """The example as tensors, floating ones in the model's precision."""
    import torch

    tensors = {}
    with np.load(inputs) as stored:
        for name in stored.files:
            tensor = torch.from_numpy(stored[name].copy()).to(model.device)
            tensors[name] = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
    return tensors


def source_of(
    model: Any,
    tensors: dict[str, Any],
    axes: Mapping[str, Mapping[str, str]],
    kwargs: dict[str, Any],
    outputs: list[str] | None,
    options: dict[str, Any],
) -> Source:
    """The model as exporters get it."""
    if "use_cache" in _parameters(model):
        kwargs = {"use_cache": False, **kwargs}
    module = named(model, list(tensors), kwargs, outputs)
    result = module(*tensors.values())
    return Source(
        module=module,
        model=model,
        tensors=tensors,
        axes={name: {int(axis): text for axis, text in axes[name].items()} for name in tensors},
        outputs=tuple(result),
        kwargs=kwargs,
        options=options,
    )


def named(
    model: Any, names: list[str], kwargs: Mapping[str, Any], outputs: list[str] | None = None
) -> Any:
    """A module with these positional inputs and a dict of tensors as its output."""

    def call(*args: Any, **given: Any) -> Any:
        values = {**dict(zip(names, args, strict=False)), **given}
        result = flattened(model(**values, **kwargs, return_dict=True))
        return {name: value for name, value in result.items() if outputs is None or name in outputs}

    return with_signature(model, names, call)


def flattened(result: Any) -> dict[str, Any]:
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
                if path or not is_state(str(name)):
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


def _parameters(model: Any) -> Any:
    return inspect.signature(model.forward).parameters


def prepared(model: Any) -> list[str]:
    """What is changed in a model before an exporter sees it; gives what there is to note."""
    return [*experts(model), *as_scan(model), *with_every_patch(model)]


def experts(model: Any) -> list[str]:
    """Mixtures of experts compute all of them at once: exporters know no grouped product."""
    if not getattr(model, "_can_set_experts_implementation", lambda: False)():
        return []
    if not any("experts" in name for name, _ in model.named_modules()):
        return []
    model.set_experts_implementation("batched_mm")
    return ["experts are computed by batched_mm"]


def first(source: Source) -> dict[str, Any]:
    """What the example gives."""
    result: dict[str, Any] = source.module(*source.tensors.values())
    return result


def _described(value: Any) -> dict[str, Any]:
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


def target_of(file: str) -> Target:
    """The target of a file."""
    spec = spec_from_file_location(f"target_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(file)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    target: Target = module.TARGET
    return target
