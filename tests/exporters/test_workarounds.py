"""Each workaround for another package is still needed: a test that fails here names the code that can go."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.transformers

torch = pytest.importorskip("torch")


def oldest_release(package: str) -> tuple[int, ...]:
    """Returns the oldest release of a package that pyproject.toml allows."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (text,) = {
        one.partition(">=")[2]
        for extra in extras.values()
        for one in extra
        if one.startswith(f"{package}>=")
    }
    return tuple(map(int, text.split(".")))


def test_onnxscript_takes_small_numbers_for_zero() -> None:
    """Asked in a process of its own: an export in this one has made the rules exact."""
    script = "from onnxscript.rewriter._pattern_ir import Constant; print(Constant(0)._abs_tol > 0)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == "True", "onnx/optimizer_fix.py can go"


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
def test_onnx_needs_squeezed_axes_of_size_one(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    class Squeeze(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: Any) -> Any:
            return x.squeeze(0) * 2

    batch = torch.export.Dim("batch", min=2, max=9)
    program = torch.export.export(
        Squeeze(), (torch.ones(3, 4),), dynamic_shapes={"x": {0: batch}}, strict=False
    )
    file = tmp_path / "squeeze.onnx"
    torch.onnx.export(program, (), file, dynamo=True, verbose=False)
    with pytest.raises(
        Exception, match=r"(?i)squeeze|dimension"
    ):  # else: onnx/fx_cleanup.py can go
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
            None, {"x": np.ones((3, 4), np.float32)}
        )


def test_pytorch_pools_one_dimension_of_a_fixed_length_only() -> None:
    """Else ``patches/symbolic_builtins.py::_max_pool1d`` can go."""
    pool = torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.ReLU())
    length = torch.export.Dim("length", min=4, max=64)
    with pytest.raises(Exception, match=r"(?i)length|specialized|constraint"):
        torch.export.export(
            pool, (torch.ones(1, 2, 8),), dynamic_shapes=({2: length},), strict=False
        )


def test_transformers_has_no_switch_for_precomputed_inputs() -> None:
    exporter = pytest.importorskip("transformers.exporters.exporter_dynamo")
    options = set(inspect.signature(exporter.DynamoExporter.config_class).parameters)
    switches = {one for one in options if "precompute" in one or "inputs" in one}
    assert not switches, "torch_export.py::_without_precomputed_inputs can go"


def test_jax_takes_no_symbolic_dimension_apart() -> None:
    export = pytest.importorskip("jax.export")
    about_sizes = {one for one in dir(export) if "dim" in one.lower() or "symbolic" in one.lower()}
    assert about_sizes == {
        "SymbolicScope",
        "is_symbolic_dim",
        "symbolic_args_specs",
        "symbolic_shape",
    }, "lowering/dims.py can use a public name"


def test_tensorflow_reads_an_older_stablehlo_than_jax_writes() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("tensorflow")
    writer: Any = import_module("jaxlib.mlir.dialects.stablehlo")
    reader: Any = import_module("tensorflow.compiler.mlir.stablehlo.stablehlo")
    newest = writer.get_current_version()
    assert reader.get_smaller_version(newest, reader.get_current_version()) != newest, (
        "programs/tf_function.py::_stablehlo_for_tensorflow can go, but for composites"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tensorflow_lite_does_not_run_the_scatters_that_it_converts() -> None:
    jax = pytest.importorskip("jax")
    tf = pytest.importorskip("tensorflow")
    from jax.experimental import jax2tf

    add = jax2tf.convert(lambda x: x.at[jax.numpy.array([0, 0, 2])].add(1.0), with_gradient=False)
    function = tf.function(add, input_signature=[tf.TensorSpec([4])], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    program = tf.lite.Interpreter(model_content=bytes(converter.convert()))
    with pytest.raises(RuntimeError, match=r"stablehlo\.scatter"):
        program.allocate_tensors()  # where it succeeds, lowering/tensorflow_lite.py can go


def test_releases_with_older_names_are_still_allowed() -> None:
    assert oldest_release("onnxruntime") < (1, 32), "runtime_passes.py::prevent_pad_fusion can go"
    assert oldest_release("torch") < (2, 10), "shapes/size_branches.py::traced_sizes: one name"
    assert oldest_release("transformers") < (5, 24), "cache_names.py::CACHE_ARGUMENTS: one name"
