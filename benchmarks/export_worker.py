"""Builds, runs and exports one tiny random model, and runs the program. Runs in a worker process.

The outputs are written to files; the caller compares them.
"""

from __future__ import annotations

import inspect
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters.build import BuildRequest, apply_patches, exportable_model
from equipoise.exporters.example_inputs import varying_axes
from equipoise.exporters.patches.experts import use_batched_experts
from equipoise.exporters.target import ExportableModel, find_target
from equipoise.exporters.torch_export import export_program, export_with_transformers
from equipoise.exporters.wrap_model import flatten_outputs

# A worker imports this file by its path; modules in the same folder must be importable too.
sys.path[:0] = [folder for folder in [str(Path(__file__).parent)] if folder not in sys.path]

EXTRA_TOKENS = 5
"""Number of tokens that the second batch has more than the traced one."""
MAX_INITIAL_WEIGHT = 1e3
"""Upper bound on the magnitude of initialized weights; larger values come from uninitialized memory."""


def build(
    model_type: str, config: dict[str, Any], class_name: str, shapes: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Builds the model, runs it on two batches in float32 and float64, and writes weights, inputs and outputs.

    Returns:
        ``varies``: how the second batch differs: ``batch and sequence``, ``batch`` or ``nothing``.
    """
    model = _build_model(model_type, config, class_name)
    root = Path(folder)
    first = _make_inputs(shapes, model, 0, 0)
    reference = _float_outputs(model, first)
    again = _float_outputs(model, first)
    if any(
        not np.array_equal(value, again[name], equal_nan=True) for name, value in reference.items()
    ):
        raise ValueError("its outputs are not deterministic")
    if any(value.size and not np.isfinite(value).any() for value in reference.values()):
        raise ValueError("an output is all NaN")
    varies, second, other = _second_batch(model, shapes) or ("nothing", first, reference)
    _save_weights(model, root)
    truths = _float64_outputs(model, first, second)
    batches = zip(("first", "second"), (first, second), (reference, other), truths, strict=True)
    for name, inputs, found, truth in batches:
        _save_arrays(root / f"{name}-inputs.npz", inputs)
        _save_arrays(root / f"{name}-reference.npz", found)
        _save_arrays(root / f"{name}-truth.npz", truth)
    return {"varies": varies}


def _save_weights(model: Any, root: Path) -> None:
    import torch

    torch.save(model.state_dict(), root / "state.pt")


def _second_batch(model: Any, shapes: dict[str, Any]) -> tuple[str, dict[str, Any], Any] | None:
    """Returns a batch of other sizes with its outputs, or None if the model accepts no other sizes."""
    from export_inputs import has_sequence_axis

    longer = (
        [("batch and sequence", 1, EXTRA_TOKENS)]
        if has_sequence_axis(_accepted_inputs(shapes, model))
        else []
    )
    for varies, rows, more in (*longer, ("batch", 1, 0)):
        inputs = _make_inputs(shapes, model, rows, more)
        try:
            return varies, inputs, _float_outputs(model, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
    return None


def export(
    model_type: str, config: dict[str, Any], class_name: str, target: str, way: str, folder: str
) -> dict[str, Any]:
    """Exports the model with one strategy."""
    _cache_onnx_registry()
    _cache_graphs(folder)
    source, notes = _load_source(model_type, config, class_name, folder)
    tool = find_target(target)
    report = tool.make(way, source, Path(folder) / tool.program)
    return {"notes": [*report.get("notes", []), *notes]}


def check_torch_export(
    model_type: str, config: dict[str, Any], class_name: str, way: str, folder: str
) -> dict[str, Any]:
    """Checks that ``torch.export`` accepts the model, called plainly or as transformers calls it; raises if not."""
    source, _ = _load_source(model_type, config, class_name, folder)
    if way == "transformers":
        export_with_transformers(source, "dynamo")
    else:
        export_program(source)
    return {}


def precompute(
    model_type: str, config: dict[str, Any], class_name: str, folder: str
) -> dict[str, Any]:
    """Adds to both batches the tensors that the model computes from Python sizes, as transformers does for its exporters.

    Raises:
        ValueError: The model computes no such tensors, or its outputs change with them.
    """
    import torch
    from transformers.exporters.utils import precompute_export_inputs

    model = _load_model(model_type, config, class_name, folder)
    for batch in ("first", "second"):
        path = Path(folder) / f"{batch}-inputs.npz"
        plain = _load_arrays(path)
        tensors = {name: torch.from_numpy(value) for name, value in plain.items()}
        precompute_export_inputs(model, tensors)
        more = {name: value.numpy() for name, value in tensors.items() if torch.is_tensor(value)}
        if more.keys() == plain.keys():
            raise ValueError("the model computes no tensors from Python sizes")
        expected, found = _float_outputs(model, plain), _float_outputs(model, more)
        if any(not np.array_equal(found[name], value) for name, value in expected.items()):
            raise ValueError("the outputs change with the precomputed tensors")
        _save_arrays(path, more)
    return {"names": sorted(more.keys() - plain.keys())}


def _cache_onnx_registry() -> None:
    """Caches PyTorch's table of ONNX translations, which takes a quarter of the export of a tiny model to build."""
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry
    if inspect.ismethod(registry.from_torchlib):
        registry.from_torchlib = staticmethod(cache(registry.from_torchlib))


def _cache_graphs(folder: str) -> None:
    """Caches the traced graph of a model, which takes most of the time of an export, for all targets that use it.

    The cache is stored on the patched function, because this file is imported again for each call.
    """
    from equipoise.exporters.programs import lower

    patched = lower.lower_model
    original = getattr(patched, "original", patched)
    graphs = {key: one for key, one in getattr(patched, "graphs", {}).items() if key[0] == folder}

    def lower_once(source: ExportableModel, way: str) -> Any:
        key = (folder, f"{way} {sorted(source.tensors)}")
        if key not in graphs:
            graphs[key] = original(source, way)
        return graphs[key]

    lower_once.original, lower_once.graphs = original, graphs  # type: ignore[attr-defined]
    lower.lower_model = lower_once


def _load_source(
    model_type: str, config: dict[str, Any], class_name: str, folder: str
) -> tuple[ExportableModel, list[str]]:
    """Returns the model that was built, in the form that exporters take, and the notes of the patches."""
    import torch

    model = _load_model(model_type, config, class_name, folder)
    root = Path(folder)
    notes = apply_patches(model)
    arrays = [_load_arrays(root / f"{name}-inputs.npz") for name in ("first", "second")]
    axes = {
        name: {str(axis): symbol for axis, symbol in one.items()}
        for name, one in varying_axes(arrays).items()
    }
    tensors = {name: torch.from_numpy(value) for name, value in arrays[0].items()}
    request = BuildRequest(
        target="", way="", folder=folder, class_name=class_name, inputs="", output="", axes=axes
    )
    return exportable_model(request, model, tensors), notes


def _load_model(model_type: str, config: dict[str, Any], class_name: str, folder: str) -> Any:
    """Returns the model with the saved weights. Some models draw random numbers that the seed does not fix."""
    import torch

    model = _build_model(model_type, config, class_name)
    model.load_state_dict(torch.load(Path(folder) / "state.pt"))
    return model


def run_onnx(folder: str) -> dict[str, Any]:
    """Runs the graph on both batches, with ONNX Runtime's graph optimizations and without."""
    import onnxruntime

    root = Path(folder)
    for kind in ("optimized", "plain"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        if kind == "plain":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            str(root / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        input_names = {value.name for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        for batch in ("first", "second"):
            inputs = {
                name: value
                for name, value in _load_arrays(root / f"{batch}-inputs.npz").items()
                if name in input_names
            }
            found = dict(zip(names, session.run(names, inputs), strict=True))
            _save_arrays(root / f"{batch}-{kind}.npz", found)
    return {}


def run_stablehlo(folder: str) -> dict[str, Any]:
    """Runs the JAX program on both batches, with JAX alone."""
    from equipoise.validators.backends.programs import stablehlo

    return _run_program(stablehlo.load(folder, "", {}), Path(folder))


def run_saved_model(folder: str) -> dict[str, Any]:
    """Runs the SavedModel on both batches, with TensorFlow alone."""
    from equipoise.validators.backends.programs import saved_model

    return _run_program(
        saved_model.load(str(Path(folder) / "saved_model" / "1"), "", {}), Path(folder)
    )


def _run_program(session: Any, root: Path) -> dict[str, Any]:
    """Runs a program on both batches; returns the seconds of the first call, which compiles."""
    took = []
    for batch in ("first", "second"):
        given = _load_arrays(root / f"{batch}-inputs.npz")
        inputs = {name: value for name, value in given.items() if name in session.accepts}
        start = time.perf_counter()
        found = {name: np.asarray(one) for name, one in session.run(inputs, {}).items()}
        took.append(time.perf_counter() - start)
        _save_arrays(root / f"{batch}-program.npz", found)
    return {"first_call": round(took[0], 2)}


def _build_model(model_type: str, config: dict[str, Any], class_name: str) -> Any:
    """Returns the model with random weights from a fixed seed."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    given = {name: value for name, value in config.items() if name != "model_type"}
    made = transformers.AutoConfig.for_model(model_type, **given)
    made._attn_implementation = "eager"
    text = made.get_text_config()
    if class_name.endswith("ForSequenceClassification") and text.pad_token_id is None:
        # Without a padding token these heads accept only one sample.
        text.pad_token_id = made.pad_token_id = 0
    model = getattr(transformers, class_name)(made).eval()
    _add_noise(model)
    return model


def _add_noise(model: Any) -> None:
    """Adds noise to weights that are constant, and replaces uninitialized weights.

    With a router of zeros the choice of experts depends on the order in which a runtime compares equal values, and with
    scales that are all one the verdict would not notice that two scales were swapped.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.is_floating_point() and weight.numel() > 1:
            noise = 0.02 * torch.randn(weight.shape, generator=random)
            if not weight.isfinite().all() or weight.abs().max() > MAX_INITIAL_WEIGHT:
                weight.copy_(noise)
            elif weight.min() == weight.max():
                weight.add_(noise)


def _make_inputs(shapes: dict[str, Any], model: Any, rows: int, longer: int) -> dict[str, Any]:
    from export_inputs import make_inputs

    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or 100)
    return make_inputs(
        _accepted_inputs(shapes, model), model.config.to_dict(), vocabulary, rows, longer
    )


def _accepted_inputs(shapes: dict[str, Any], model: Any) -> dict[str, Any]:
    """Returns the inputs that the class accepts: a head may take fewer than the base model."""
    known = inspect.signature(model.forward).parameters
    return {name: shape for name, shape in shapes.items() if name in known} or shapes


def _float_outputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    tensors = {
        name: value.to(model.dtype) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    plain = (
        {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    )
    found = flatten_outputs(model(**tensors, **plain, return_dict=True))
    return {name: value.numpy() for name, value in found.items() if value.is_floating_point()}


def _float64_outputs(model: Any, *batches: dict[str, Any]) -> list[dict[str, Any]]:
    import torch

    from equipoise.validators.backends import _torch

    wide = model.double()
    use_batched_experts(wide)  # torch's grouped matmul does not support float64
    with _torch.arithmetic_mode(torch.float64):
        return [_float_outputs(wide, batch) for batch in batches]


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _load_arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
