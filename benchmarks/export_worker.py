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

from equipoise.exporters.build import (
    apply_patches,
    exportable_model,
    flatten_outputs,
    use_batched_experts,
)
from equipoise.exporters.example_inputs import varying_axes
from equipoise.exporters.target import ExportableModel, find_target
from equipoise.exporters.torch_export import export_program, export_with_transformers

# A worker imports this file by its path; modules in the same folder must be importable too.
sys.path[:0] = [folder for folder in [str(Path(__file__).parent)] if folder not in sys.path]

LONGER = 5
"""Number of tokens that the second batch has more than the traced one."""
WILD = 1e3
"""Upper bound on the magnitude of initialized weights; larger values come from uninitialized memory."""


def build(
    model_type: str, config: dict[str, Any], class_name: str, shapes: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Builds the model, runs it on two batches in float32 and float64, and writes weights, inputs and outputs.

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
        raise ValueError("its outputs are not deterministic")
    if any(value.size and not np.isfinite(value).any() for value in reference.values()):
        raise ValueError("an output is all NaN")
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
    """Returns a batch of other sizes with its outputs, or None if the model accepts no other sizes."""
    from export_inputs import grows

    longer = [("batch and sequence", 1, LONGER)] if grows(_taken(shapes, model)) else []
    for varies, rows, more in (*longer, ("batch", 1, 0)):
        inputs = _inputs(shapes, model, rows, more)
        try:
            return varies, inputs, _numbers(model, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
    return None


def export(
    model_type: str, config: dict[str, Any], class_name: str, target: str, way: str, folder: str
) -> dict[str, Any]:
    """Exports the model with one strategy."""
    _read_translations_once()
    _make_graphs_once(folder)
    source, notes = _source(model_type, config, class_name, folder)
    tool, _ = find_target(target)
    about = tool.make(way, source, Path(folder) / tool.program)
    return {"notes": [*about.get("notes", []), *notes]}


def accepts(
    model_type: str, config: dict[str, Any], class_name: str, way: str, folder: str
) -> dict[str, Any]:
    """Checks that ``torch.export`` accepts the model, called plainly or as transformers calls it; raises if not."""
    source, _ = _source(model_type, config, class_name, folder)
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

    model = _restored(model_type, config, class_name, folder)
    for batch in ("first", "second"):
        path = Path(folder) / f"{batch}-inputs.npz"
        plain = _load(path)
        tensors = {name: torch.from_numpy(value) for name, value in plain.items()}
        precompute_export_inputs(model, tensors)
        more = {name: value.numpy() for name, value in tensors.items() if torch.is_tensor(value)}
        if more.keys() == plain.keys():
            raise ValueError("the model computes no tensors from Python sizes")
        expected, found = _numbers(model, plain), _numbers(model, more)
        if any(not np.array_equal(found[name], value) for name, value in expected.items()):
            raise ValueError("the outputs change with the precomputed tensors")
        _save(path, more)
    return {"names": sorted(more.keys() - plain.keys())}


def _read_translations_once() -> None:
    """Caches PyTorch's table of ONNX translations, which takes a quarter of the export of a tiny model to build."""
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry
    if inspect.ismethod(registry.from_torchlib):
        registry.from_torchlib = staticmethod(cache(registry.from_torchlib))


def _make_graphs_once(folder: str) -> None:
    """Caches the traced graph of a model, which takes most of the time of an export, for all targets that use it.

    The cache is stored on the patched function, because this file is imported again for each call.
    """
    from equipoise.exporters.programs import jax_program

    before = jax_program.graph_of
    plain = getattr(before, "plain", before)
    graphs = {key: one for key, one in getattr(before, "graphs", {}).items() if key[0] == folder}

    def kept(source: ExportableModel, way: str) -> Any:
        key = (folder, f"{way} {sorted(source.tensors)}")
        if key not in graphs:
            graphs[key] = plain(source, way)
        return graphs[key]

    kept.plain, kept.graphs = plain, graphs  # type: ignore[attr-defined]
    jax_program.graph_of = kept


def _source(
    model_type: str, config: dict[str, Any], class_name: str, folder: str
) -> tuple[ExportableModel, list[str]]:
    """Returns the model that was built, in the form that exporters take, and the notes of the patches."""
    import torch

    model = _restored(model_type, config, class_name, folder)
    place = Path(folder)
    notes = apply_patches(model)
    arrays = [_load(place / f"{name}-inputs.npz") for name in ("first", "second")]
    axes = {
        name: {str(axis): symbol for axis, symbol in one.items()}
        for name, one in varying_axes(arrays).items()
    }
    tensors = {name: torch.from_numpy(value) for name, value in arrays[0].items()}
    return exportable_model(model, tensors, axes, {}, None, {}), notes


def _restored(model_type: str, config: dict[str, Any], class_name: str, folder: str) -> Any:
    """Returns the model with the saved weights. Some models draw random numbers that the seed does not fix."""
    import torch

    model = _model(model_type, config, class_name)
    model.load_state_dict(torch.load(Path(folder) / "state.pt"))
    return model


def run_onnx(folder: str) -> dict[str, Any]:
    """Runs the graph on both batches, with ONNX Runtime's graph optimizations and without."""
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


def run_stablehlo(folder: str) -> dict[str, Any]:
    """Runs the JAX program on both batches, with JAX alone."""
    from equipoise.validators.backends.programs import stablehlo

    return _run(stablehlo.load(folder, "", {}), Path(folder))


def run_saved_model(folder: str) -> dict[str, Any]:
    """Runs the SavedModel on both batches, with TensorFlow alone."""
    from equipoise.validators.backends.programs import saved_model

    return _run(saved_model.load(str(Path(folder) / "saved_model" / "1"), "", {}), Path(folder))


def _run(session: Any, place: Path) -> dict[str, Any]:
    """Runs a program on both batches; returns the seconds of the first call, which compiles."""
    took = []
    for batch in ("first", "second"):
        given = _load(place / f"{batch}-inputs.npz")
        inputs = {name: value for name, value in given.items() if name in session.accepts}
        start = time.perf_counter()
        found = {name: np.asarray(one) for name, one in session.run(inputs, {}).items()}
        took.append(time.perf_counter() - start)
        _save(place / f"{batch}-program.npz", found)
    return {"first_call": round(took[0], 2)}


def _model(model_type: str, config: dict[str, Any], class_name: str) -> Any:
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
    _stir(model)
    return model


def _stir(model: Any) -> None:
    """Adds noise to weights that are constant, and replaces uninitialized weights.

    With a router of zeros the choice of experts depends on the order in which a runtime compares equal values, and with
    scales that are all one the verdict would not notice that two scales were swapped.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.is_floating_point() and weight.numel() > 1:
            noise = 0.02 * torch.randn(weight.shape, generator=random)
            if not weight.isfinite().all() or weight.abs().max() > WILD:
                weight.copy_(noise)
            elif weight.min() == weight.max():
                weight.add_(noise)


def _inputs(shapes: dict[str, Any], model: Any, rows: int, longer: int) -> dict[str, Any]:
    from export_inputs import inputs

    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or 100)
    return inputs(_taken(shapes, model), model.config.to_dict(), vocabulary, rows, longer)


def _taken(shapes: dict[str, Any], model: Any) -> dict[str, Any]:
    """Returns the inputs that the class accepts: a head may take fewer than the base model."""
    known = inspect.signature(model.forward).parameters
    return {name: shape for name, shape in shapes.items() if name in known} or shapes


def _numbers(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
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


def _truths(model: Any, *batches: dict[str, Any]) -> list[dict[str, Any]]:
    import torch

    from equipoise.validators.backends import _torch

    wide = model.double()
    use_batched_experts(wide)  # torch's grouped matmul does not support float64
    with _torch.arithmetic_mode(torch.float64):
        return [_numbers(wide, batch) for batch in batches]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
