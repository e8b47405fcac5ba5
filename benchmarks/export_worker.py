"""One tiny random model: built, run, exported and run again. Runs in a worker process.

The judgement is not made here; the arrays go back in files.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters.base import Source, find_target
from equipoise.exporters.inputs import varying_axes
from equipoise.exporters.making import experts, flattened, source_of

LONGER = 5
"""Tokens that the second batch has more than the traced one."""


def build(
    model_type: str, config: dict[str, Any], class_name: str, shapes: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Builds the model, runs it on two batches in float32 and float64, and keeps all that.

    Returns:
        ``varies``: how the second batch differs: ``batch and sequence``, ``batch`` or ``nothing``.
    """
    model = _model(model_type, config, class_name)
    place = Path(folder)
    first = _inputs(shapes, model, 0, 0)
    reference = _numbers(model, first)
    again = _numbers(model, first)
    if any(
        not np.array_equal(value, again[name], equal_nan=True) for name, value in reference.items()
    ):
        raise ValueError("its outputs are random")
    varies, second, other = _another(model, shapes) or ("nothing", first, reference)
    _keep(model, place)
    truths = _truths(model, first, second)
    batches = zip(("first", "second"), (first, second), (reference, other), truths, strict=True)
    for name, inputs, found, truth in batches:
        _save(place / f"{name}-inputs.npz", inputs)
        _save(place / f"{name}-reference.npz", found)
        _save(place / f"{name}-truth.npz", truth)
    return {"varies": varies}


def _keep(model: Any, place: Path) -> None:
    import torch

    torch.save(model.state_dict(), place / "state.pt")


def _another(model: Any, shapes: dict[str, Any]) -> tuple[str, dict[str, Any], Any] | None:
    """A batch of other sizes, as far as the model itself takes them."""
    for varies, rows, longer in (("batch and sequence", 1, LONGER), ("batch", 1, 0)):
        inputs = _inputs(shapes, model, rows, longer)
        longest = {name: value.shape[1:] for name, value in inputs.items()}
        if longer and longest == {name: tuple(shape[1:]) for name, shape in shapes.items()}:
            continue  # nothing in it has a sequence
        try:
            return varies, inputs, _numbers(model, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
    return None


def export(
    model_type: str, config: dict[str, Any], class_name: str, target: str, way: str, folder: str
) -> dict[str, Any]:
    """Exports the same model in one way."""
    import torch

    start = time.perf_counter()
    torch.set_grad_enabled(False)
    model = _model(model_type, config, class_name)
    place = Path(folder)
    # Some models leave parameters as the memory was; a seed does not give them back.
    model.load_state_dict(torch.load(place / "state.pt"))
    notes = experts(model)
    arrays = [_load(place / f"{name}-inputs.npz") for name in ("first", "second")]
    axes = {
        name: {str(axis): symbol for axis, symbol in one.items()}
        for name, one in varying_axes(arrays).items()
    }
    tensors = {name: torch.from_numpy(value) for name, value in arrays[0].items()}
    source: Source = source_of(model, tensors, axes, {}, None, {})
    tool, _ = find_target(target)
    tool.make(way, source, place / tool.program)
    return {"seconds": time.perf_counter() - start, "notes": notes}


def run_onnx(folder: str) -> dict[str, Any]:
    """Runs the graph on both batches, rewritten by ONNX Runtime and as it is."""
    import onnxruntime

    place = Path(folder)
    for kind in ("optimized", "plain"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        if kind == "plain":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            str(place / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        taken = {value.name for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        for batch in ("first", "second"):
            inputs = {
                name: value
                for name, value in _load(place / f"{batch}-inputs.npz").items()
                if name in taken
            }
            found = dict(zip(names, session.run(names, inputs), strict=True))
            _save(place / f"{batch}-{kind}.npz", found)
    return {}


def _model(model_type: str, config: dict[str, Any], class_name: str) -> Any:
    """The same weights every time."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    given = {name: value for name, value in config.items() if name != "model_type"}
    made = transformers.AutoConfig.for_model(model_type, **given)
    made._attn_implementation = "eager"
    return getattr(transformers, class_name)(made).eval()


def _inputs(shapes: dict[str, Any], model: Any, rows: int, longer: int) -> dict[str, Any]:
    """Tokens, masks and features of these shapes; padding on the right of the second sample."""
    made: dict[str, Any] = {}
    random = np.random.default_rng(0)
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or 100)
    for name, shape in shapes.items():
        size = list(shape)
        size[0] += rows
        if len(size) == 2 and name.endswith(("ids", "mask")):
            size[1] += longer
        if name.endswith("mask"):
            made[name] = np.ones(size, np.int64)
            if name == "attention_mask" and len(size) == 2 and "pixel_values" not in shapes:
                made[name][1, -3:] = 0
        elif name.endswith(("ids", "labels")):
            made[name] = random.integers(3, max(min(vocabulary, 90), 4), size)
        else:
            made[name] = random.standard_normal(size).astype(np.float32)
    return made


def _numbers(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import inspect

    import torch

    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    tensors = {
        name: value.to(model.dtype) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    plain = (
        {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    )
    found = flattened(model(**tensors, **plain, return_dict=True))
    return {name: value.numpy() for name, value in found.items() if value.is_floating_point()}


def _truths(model: Any, *batches: dict[str, Any]) -> list[dict[str, Any]]:
    import torch

    from equipoise.validators.backends import torch_common

    wide = model.double()
    experts(wide)  # the grouped product knows no float64
    with torch_common.arithmetic(torch.float64):
        return [_numbers(wide, batch) for batch in batches]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
