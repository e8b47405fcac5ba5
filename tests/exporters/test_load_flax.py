"""``load_flax`` of six architectures: gradients and training as in PyTorch, and weights of transformers 4.57.6's Flax classes fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worker_functions

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest.importorskip("flax")

from equipoise.convert import convert, open_checkpoint
from equipoise.exporters import load_flax, load_jax
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
RATE = 1e-3
STEPS = 20
GRADIENT_TOLERANCE = 2e-5
"""Tolerance relative to the largest value of a gradient."""


@dataclass(frozen=True)
class Trained:
    """A model that is trained.

    Attributes:
        task: Its folder in ``fixtures/tasks``.
        name: Its class.
        inputs: Returns inputs for the given numbers of rows and tokens.
    """

    task: str
    name: str
    inputs: Callable[[int, int], dict[str, Any]]


def texts(rows: int, length: int) -> dict[str, Any]:
    token_ids = np.random.default_rng(rows).integers(5, 60, (rows, length))
    mask = np.ones((rows, length), np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": token_ids, "attention_mask": mask}


def text_pairs(rows: int, length: int) -> dict[str, Any]:
    return {**texts(rows, length), "decoder_input_ids": texts(rows, length + 2)["input_ids"]}


def pixels(rows: int, length: int) -> dict[str, Any]:
    shape = (rows, 3, 30, 30)
    return {"pixel_values": np.random.default_rng(length).standard_normal(shape, np.float32)}


def waveforms(rows: int, length: int) -> dict[str, Any]:
    shape = (rows, 400 * length)
    return {"input_values": np.random.default_rng(length).standard_normal(shape, np.float32)}


def spectrograms(rows: int, length: int) -> dict[str, Any]:
    features = np.random.default_rng(length).standard_normal((rows, 20, 200), np.float32)
    tokens = texts(rows, length)["input_ids"]
    return {"input_features": features, "decoder_input_ids": tokens}


MODELS = (
    Trained("text-classification", "BertForSequenceClassification", texts),
    Trained("text-generation", "GPT2LMHeadModel", texts),
    Trained("translation-t5", "T5ForConditionalGeneration", text_pairs),
    Trained("image-classification", "ViTForImageClassification", pixels),
    Trained("automatic-speech-recognition-ctc", "Wav2Vec2ForCTC", waveforms),
    Trained(
        "automatic-speech-recognition-seq2seq", "WhisperForConditionalGeneration", spectrograms
    ),
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=pytest.mark.xdist_group(f"load_flax {one.task}"), id=one.task)
        for one in MODELS
    ],
)
def model(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.param
    return found


@pytest.fixture(scope="module")
def folder(model: Trained, programs: Callable[..., Path]) -> Path:
    return programs(TASKS / model.task, model.name, **model.inputs(2, 7))


def targets(logits: Any) -> Any:
    """Returns a class to learn for each position that has logits."""
    shape = logits.shape[:-1]
    return np.random.default_rng(1).integers(0, logits.shape[-1], shape)


def pytorch_loss(model: Any, inputs: dict[str, Any]) -> Any:
    import torch

    logits = model(**{name: torch.from_numpy(one) for name, one in inputs.items()}).logits
    wanted = torch.from_numpy(targets(logits)).flatten()
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), wanted)


def flax_loss(model: Any, inputs: dict[str, Any]) -> Any:
    from jax import numpy as jnp
    from jax.nn import log_softmax

    logits = model(**inputs)["logits"]
    found = jnp.take_along_axis(log_softmax(logits), jnp.asarray(targets(logits))[..., None], -1)
    return -found.mean()


def load_pytorch(model: Trained) -> Any:
    """Returns the same model in PyTorch, without dropout."""
    import transformers

    kind = getattr(transformers, model.name)
    return kind.from_pretrained(TASKS / model.task, attn_implementation="eager").eval()


def test_gradients_and_training(model: Trained, folder: Path, tmp_path: Path) -> None:
    """Every parameter's gradient and twenty steps of AdamW agree with PyTorch."""
    import optax
    import torch
    from flax import nnx

    inputs = model.inputs(3, 9)
    theirs = load_pytorch(model)
    stepper = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.01)
    mine = load_flax(folder)
    optimizer = nnx.Optimizer(mine, optax.adamw(RATE, weight_decay=0.01), wrt=nnx.Param)

    @nnx.jit
    def step(mine: Any, optimizer: Any) -> Any:
        loss, gradients = nnx.value_and_grad(flax_loss)(mine, inputs)
        optimizer.update(mine, gradients)
        return loss, gradients

    expected, found = [], []
    for number in range(STEPS):
        with torch.enable_grad():
            stepper.zero_grad()
            loss = pytorch_loss(theirs, inputs)
            loss.backward()
        state = nnx.to_pure_dict(nnx.state(mine))
        ours, gradients = step(mine, optimizer)
        if number == 0:
            compare(model, theirs, state | nnx.to_pure_dict(gradients), tmp_path)
        stepper.step()
        expected.append(loss.item())
        found.append(float(ours))
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)


def compare(model: Trained, theirs: Any, gradients: Any, folder: Path) -> None:
    """Compares gradients after mapping their names to PyTorch's, as for weights."""
    import jax
    from flax.serialization import msgpack_serialize
    from transformers.core_model_loading import revert_weight_conversion

    source = folder / "flax"
    source.mkdir()
    shutil.copy(TASKS / model.task / "config.json", source)
    tree = jax.tree.map(np.asarray, gradients)
    (source / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    convert(source, folder / "pytorch", to="pytorch")
    found = {name: ref.read() for name, ref in open_checkpoint(folder / "pytorch").items()}
    gradients = {name: one.grad for name, one in theirs.named_parameters() if one.grad is not None}
    expected = revert_weight_conversion(theirs, gradients)  # names of files, which are older
    assert expected.keys() <= found.keys()
    assert len(expected) > 0.9 * len(found)
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        # Some are zero but for rounding: those of the biases of keys.
        scale = GRADIENT_TOLERANCE * float(value.abs().max()) + 1e-6 * largest
        np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=scale, err_msg=name)


@pytest.mark.oracle
def test_weights_of_transformers_4(
    model: Trained, folder: Path, oracle: WorkerProcess, tmp_path: Path
) -> None:
    """Weights that the Flax class of transformers 4.57.6 saved replace the artifact's as they are."""
    convert(TASKS / model.task, tmp_path / "flax", to="flax")
    theirs = RemoteModel(oracle, "flax", model.name, tmp_path / "flax")
    oracle.call(
        worker_functions.__file__, "save", model=theirs.name, folder=str(tmp_path / "saved")
    )
    theirs.drop()
    shutil.copy(folder / "program.jax", tmp_path)
    shutil.copy(tmp_path / "saved" / "flax_model.msgpack", tmp_path)
    inputs = model.inputs(3, 9)
    found = load_jax(tmp_path)(**inputs)
    for name, value in load_jax(folder)(**inputs).items():
        assert np.array_equal(found[name], value), name
