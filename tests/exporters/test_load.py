"""Artifacts of ``--to stablehlo`` as a JAX function and as a Flax module: values, gradients, training."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest.importorskip("flax")

from equipoise.convert.core.errors import ContainerError, InputError
from equipoise.exporters import load_flax, load_jax

pytestmark = [pytest.mark.transformers, pytest.mark.slow, pytest.mark.xdist_group("load")]

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
BERT = TASKS / "text-classification"
NAME = "BertForSequenceClassification"


def tokens(rows: int, length: int) -> dict[str, Any]:
    token_ids = np.random.default_rng(rows).integers(5, 60, (rows, length))
    mask = np.ones((rows, length), np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": token_ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def bert(programs: Callable[..., Path]) -> Path:
    return programs(BERT, NAME, **tokens(2, 7))


@pytest.fixture
def pytorch() -> Iterator[Any]:
    """Returns the same model in PyTorch, without dropout."""
    import torch
    import transformers

    before = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    yield transformers.BertForSequenceClassification.from_pretrained(
        BERT, attn_implementation="eager"
    ).eval()
    torch.set_grad_enabled(before)


def test_jax_function(bert: Path, pytorch: Any) -> None:
    import torch

    program = load_jax(bert)
    assert {name: str(spec.dtype) for name, spec in program.inputs.items()} == {
        "attention_mask": "int32",
        "input_ids": "int32",
    }
    assert program.roles["model"].exported.platforms == ("cpu", "cuda", "tpu")
    for rows, length in ((1, 1), (3, 33)):
        inputs = tokens(rows, length)
        with torch.no_grad():
            expected = pytorch(**{n: torch.from_numpy(v) for n, v in inputs.items()}).logits
        np.testing.assert_allclose(program(**inputs)["logits"], expected.numpy(), rtol=0, atol=4e-6)


def test_weights_that_orbax_saved(bert: Path, tmp_path: Path) -> None:
    """The state of a module that was changed comes back, as a module and as a function; other weights are refused."""
    import jax
    import orbax.checkpoint as ocp
    from flax import nnx

    module = load_flax(bert)
    state = jax.tree.map(lambda value: value + 0.5, nnx.state(module))
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "state", state)
    nnx.update(module, state)
    inputs = tokens(2, 7)
    expected = module(**inputs)["logits"]
    assert not np.array_equal(expected, load_flax(bert)(**inputs)["logits"])
    for load in (load_flax, load_jax):
        found = load(bert, weights=tmp_path / "state")(**inputs)["logits"]
        np.testing.assert_array_equal(found, expected)
    other = jax.tree.map(lambda value: value[..., :1], nnx.state(module))
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "other", other)
    with pytest.raises(InputError, match="other weights than the program"):
        load_flax(bert, weights=tmp_path / "other")


def test_names_of_the_flax_layout(bert: Path, pytorch: Any) -> None:
    """The parameter tree is that of the Flax class in transformers 4.57.6, so weights from its files fit."""
    tree = load_jax(bert).parameters
    kernel = tree["bert"]["encoder"]["layer"]["0"]["attention"]["self"]["query"]["kernel"]
    weight = pytorch.bert.encoder.layer[0].attention.self.query.weight.detach().numpy()
    assert np.array_equal(kernel, weight.T)
    assert set(tree) == {"bert", "classifier"}
    assert set(tree["bert"]["embeddings"]["LayerNorm"]) == {"scale", "bias"}


def test_saved_with_orbax(bert: Path, tmp_path: Path) -> None:
    """Orbax restores what it saved of a modified module."""
    import orbax.checkpoint as ocp
    from flax import nnx

    model = load_flax(bert)
    model.classifier.bias[...] = model.classifier.bias[...] + 1
    inputs = tokens(2, 5)
    expected = model(**inputs)["logits"]
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "state", nnx.state(model))
        saver.wait_until_finished()
        again = load_flax(bert)
        assert not np.array_equal(again(**inputs)["logits"], expected)
        nnx.update(again, saver.restore(tmp_path / "state", nnx.state(again)))
    assert np.array_equal(again(**inputs)["logits"], expected)


SHARDED = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from equipoise.exporters import load_jax
program = load_jax(sys.argv[1])
inputs = {"input_ids": np.arange(5, 33).reshape(4, 7), "attention_mask": np.ones((4, 7), int)}
inputs = {name: value.astype(np.int32) for name, value in inputs.items()}
mesh = Mesh(np.array(jax.devices()), ("data",))
rows = NamedSharding(mesh, PartitionSpec("data"))
placed = jax.device_put(inputs, rows)
whole = jax.device_put(program.parameters, NamedSharding(mesh, PartitionSpec()))
found = jax.jit(program.apply, out_shardings=rows)(whole, placed)["logits"]
assert len(found.sharding.device_set) == 2
np.testing.assert_allclose(found, program(**inputs)["logits"], atol=4e-6)
assert not any(name in sys.modules for name in ("torch", "transformers", "flax"))
"""


def test_sharded_and_without_pytorch(bert: Path) -> None:
    command = [sys.executable, "-c", SHARDED, str(bert)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_regular_layout(programs: Callable[..., Path]) -> None:
    """An architecture without a Flax class gets names from the types of its modules."""
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    folder = programs(
        TASKS / "image-segmentation-semantic",
        "SegformerForSemanticSegmentation",
        pixel_values=pixels,
    )
    tree = load_jax(folder).parameters
    assert set(tree) == {"params", "batch_stats"}
    head = tree["params"]["decode_head"]
    assert set(head["classifier"]) == {"kernel", "bias"}
    assert set(head["batch_norm"]) == {"scale", "bias"}
    assert set(tree["batch_stats"]["decode_head"]["batch_norm"]) == {"mean", "var"}
    state = load_flax(folder).batch_stats.decode_head.batch_norm
    assert type(state.mean).__name__ == "BatchStat"


def test_bad_input(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="equipoise export MODEL OUT --to stablehlo"):
        load_jax(tmp_path)
    with pytest.raises(InputError, match="attention_mask, input_ids"):
        load_jax(bert)(input_ids=np.ones((1, 2)))
    shutil.copytree(bert, tmp_path / "cut")
    (tmp_path / "cut" / "program.jax").write_bytes((bert / "program.jax").read_bytes()[:100])
    with pytest.raises(ContainerError, match="not a program of"):
        load_jax(tmp_path / "cut")
    shutil.copy(bert / "program.jax", tmp_path / "cut")
    (tmp_path / "cut" / "flax_model.msgpack").write_bytes(b"\x81")
    with pytest.raises(ContainerError, match=r"flax_model\.msgpack"):
        load_jax(tmp_path / "cut")
