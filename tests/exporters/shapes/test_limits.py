"""A model with a maximum length notes the limit in every target that uses ``torch.export``, and refuses longer inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from equipoise.convert.core.errors import InputError
from equipoise.exporters import load_jax
from equipoise.exporters.target import find_target

pytestmark = [pytest.mark.transformers, pytest.mark.slow]

LONGEST = 13
NOTE = "sizes: sequence_length <= 13 (transformers.models.clip.modeling_clip:"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=99,
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LONGEST,
        eos_token_id=98,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPTextModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def exported_notes(
    model: Path, make_program: Callable[..., list[str]], tmp_path: Path
) -> Callable[[str], list[str]]:
    """Returns a function that exports with the first strategy of a target into the test's folder and returns the notes."""

    def make(target: str) -> list[str]:
        way = next(iter(find_target(target).ways))
        return make_program(target, way, model, "CLIPTextModel", tmp_path, **inputs(2, 7))

    return make


def inputs(rows: int, length: int) -> dict[str, Any]:
    ids = np.random.default_rng(0).integers(3, 90, (rows, length))
    ids[:, -1] = 98
    return {"input_ids": ids, "attention_mask": np.ones((rows, length), np.int64)}


def expected(model: Path, length: int) -> Any:
    from transformers import CLIPTextModel

    given = {name: torch.from_numpy(value) for name, value in inputs(3, length).items()}
    with torch.no_grad():
        plain = CLIPTextModel.from_pretrained(model, attn_implementation="eager")
        return plain.eval()(**given).last_hidden_state.numpy()


def test_jax(model: Path, exported_notes: Callable[[str], list[str]], tmp_path: Path) -> None:
    pytest.importorskip("jax")
    notes = exported_notes("stablehlo")
    assert any(one.startswith(NOTE) for one in notes)
    (tmp_path / "artifact.json").write_text(json.dumps({"notes": ["something else", *notes]}))
    program = load_jax(tmp_path)
    found = program(**inputs(3, LONGEST))["last_hidden_state"]
    np.testing.assert_allclose(found, expected(model, LONGEST), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="sequence_length <= 13") as refused:
        program(**inputs(3, LONGEST + 1))
    assert "something else" not in str(refused.value)
    assert refused.value.found == "attention_mask (3, 14), input_ids (3, 14)"


def test_tensorflow(
    model: Path, exported_notes: Callable[[str], list[str]], tmp_path: Path
) -> None:
    tf = pytest.importorskip("tensorflow")
    notes = exported_notes("saved-model")
    assert any(one.startswith(NOTE) for one in notes)
    serve = tf.saved_model.load(str(tmp_path / find_target("saved-model").program)).signatures[
        "serving_default"
    ]

    def call(length: int) -> Any:
        given = {name: tf.constant(value, tf.int32) for name, value in inputs(3, length).items()}
        return serve(**given)["last_hidden_state"].numpy()

    np.testing.assert_allclose(call(LONGEST), expected(model, LONGEST), rtol=0, atol=1e-5)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"limit index 14 is larger|sequence_length <= 13"
    ):
        call(LONGEST + 1)


@pytest.mark.parametrize("target", ["onnx", "torch-export"])
def test_pytorch(target: str, exported_notes: Callable[[str], list[str]], tmp_path: Path) -> None:
    """ONNX has no checks of sizes: the note is all there is."""
    notes = exported_notes(target)
    assert any(one.startswith(NOTE) for one in notes)
    if target == "torch-export":
        program = torch.export.load(str(tmp_path / find_target(target).program)).module()
        with pytest.raises((AssertionError, RuntimeError), match="13"):
            program(**{name: torch.from_numpy(one) for name, one in inputs(3, LONGEST + 1).items()})
