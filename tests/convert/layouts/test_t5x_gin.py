"""T5X's gin file beside a checkpoint says what config.json would: its literals are read, nothing in it is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorstore")

from safetensors.numpy import load_file

from equipoise.convert.api import convert
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.research.repository_config import read_gin
from equipoise.convert.research.t5x_settings import check_t5x_settings
from equipoise.fixtures.synthetic import write_checkpoint
from equipoise.fixtures.t5x_checkpoints import write_t5x

BLOCK = """\
# T5.1.1 tiny model.
include 't5x/examples/t5/t5_1_1/base.gin'  # imports vocab, optimizer and model.
from t5x import partitioning
DROPOUT_RATE = 0.25
network.Transformer.config = @network.T5Config()
network.T5Config:
  vocab_size = 37  # a remark
  dtype = 'bfloat16'
  emb_dim = 6
  num_heads = 2
  num_encoder_layers = 3
  num_decoder_layers = 1
  head_dim = 5
  mlp_dim = 11
  mlp_activations = ('gelu', 'linear')
  dropout_rate = %DROPOUT_RATE
  logits_via_embedding = False

train.model = @models.EncoderDecoderModel()
"""
LINES = """\
network.T5Config.emb_dim = 6
network.T5Config.num_heads = \\
    2
network.T5Config.num_encoder_layers = 3
network.T5Config.num_decoder_layers = %LAYERS
network.T5Config.head_dim = 5
network.T5Config.mlp_dim = 11
network.T5Config.mlp_activations = ('gelu', 'linear')
network.T5Config.dropout_rate = 0.25
LAYERS = 1
"""
MACROS = """\
NUM_HEADS = 2
NUM_ENCODER_LAYERS = 3
NUM_DECODER_LAYERS = 1
HEAD_DIM = 5
MLP_DIM = 11
DROPOUT_RATE = 0.25
dense.MlpBlock.activations = ('gelu', 'linear')
relative_position_biases.RelativePositionBiases.max_distance = 64
"""
CONFIG = {
    "vocab_size": 37,
    "d_model": 6,
    "num_heads": 2,
    "num_layers": 3,
    "num_decoder_layers": 1,
    "d_kv": 5,
    "d_ff": 11,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.25,
    "relative_attention_num_buckets": 8,
    "tie_word_embeddings": False,
}


def write_run(folder: Path, config: dict[str, Any], gin: str, name: str = "config.gin") -> Path:
    """Writes the output of a training of T5X as it lies on disk: the gin file, and a folder with a step."""
    source = write_checkpoint(folder / "source", "t5", "T5ForConditionalGeneration", config)
    convert(source, folder / "flat", to="t5x-safetensors")
    stored = load_file(folder / "flat" / "model.safetensors")
    flat = {key.replace(".", "/"): value for key, value in stored.items()}
    few = frozenset(key for key in flat if "norm" not in key)
    write_t5x(folder / "run" / "checkpoint_7", flat, small=few, state=False)
    (folder / "run" / name).write_text(gin)
    return folder / "run"


@pytest.mark.parametrize("gin", [BLOCK, LINES, MACROS])
@pytest.mark.parametrize("below", ["", "checkpoint_7"])
def test_a_run_converts_without_an_option(gin: str, below: str, tmp_path: Path) -> None:
    run = write_run(tmp_path, CONFIG, gin)
    convert(run / below, tmp_path / "out", to="pytorch")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    distance = {"relative_attention_max_distance": 64} if gin == MACROS else {}
    expected = {**CONFIG, **distance, "model_type": "t5"}
    assert {key: made.get(key) for key in expected} == expected
    assert set(made) <= {*expected, "architectures"}  # nothing of the gin file's own
    found, source = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("out", "source")
    )
    assert found.keys() == source.keys()
    assert all(np.array_equal(found[key], value) for key, value in source.items())


def test_a_vocabulary_tells_mt5(tmp_path: Path) -> None:
    large = {**CONFIG, "vocab_size": 250112, "d_model": 2}
    run = write_run(tmp_path, large, LINES.replace("emb_dim = 6", "emb_dim = 2"))
    convert(run, tmp_path / "out", to="pytorch")
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert made["model_type"] == "mt5"
    assert made["num_heads"] == 2


def test_sizes_of_another_model_are_refused(tmp_path: Path) -> None:
    run = write_run(
        tmp_path, CONFIG, BLOCK.replace("num_encoder_layers = 3", "num_encoder_layers = 4")
    )
    with pytest.raises(ArchitectureError, match="has the sizes that the gin file says") as refused:
        convert(run, tmp_path / "out", to="pytorch")
    assert "T5Config.num_encoder_layers = 4" in str(refused.value)


def test_without_a_file_the_error_names_it(tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = write_run(tmp_path, CONFIG, BLOCK)
    (run / "config.gin").unlink()
    outcome = cli("convert", run, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 2
    assert "T5X saves config.gin in the folder above" in outcome.err


def test_only_literals_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text(
        "import os\nA = __import__('os').system('true')\nB = @os.getcwd()\nC = %A\nD = 2 ** 9\n"
        "s.T5Config.x = [1, 2]\ns/T5Config.x = 5\nT5Config:\n  y = %E\n  z = @A\nE = %F\nF = 'e'\nb.T5Config.w = {'k': 1}\n"
        "s/T5Config:\n  y = 7\nG = %G\n"
    )
    assert dict(read_gin(path).values) == {
        "T5Config": {"x": [1, 2], "y": "e", "w": {"k": 1}},
        "E": "e",
        "F": "e",
    }


SHAPES = {
    "encoder/layers_0/mlp/wi_0/kernel": (6, 11),
    "decoder/layers_0/mlp/wi_0/kernel": (6, 11),
}
DISTANCE = "RelativePositionBiases.max_distance"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(
            ("mlp_activations", text)
            for text in (
                "('gelu', 'gelu')", "('gelu', 5)", "('evil', 'linear')", "('linear', 'gelu')", "()", "5", "'gelu'",
                "([1], 'linear')", "({},)", "('gelu',)",
            )
        ),
        *(("dropout_rate", text) for text in ("'x'", "{'a': 1}", "-1", "1e308", "1", "True", "%X")),
        *(("num_heads", text) for text in ("None", "2 ** 3", "0", "2.0", "True", "%CYCLE", "@f()")),
        ("emb_dim", "7"),
        ("logits_via_embedding", "True"),
    ],
)  # fmt: skip
def test_what_no_t5_has_is_refused_by_name(field: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text(f"{LINES}CYCLE = %OTHER\nOTHER = %CYCLE\nnetwork.T5Config.{field} = {text}\n")
    shapes = {**SHAPES, "decoder/logits_dense/kernel": (6, 37)}
    with pytest.raises(ArchitectureError) as refused:
        check_t5x_settings(path, shapes, (37, 6))
    said = str(refused.value)
    assert all(one in said for one in (str(path), f"T5Config.{field}", text, "expected:"))


@pytest.mark.parametrize("text", ["'x'", "-7", "0", "128.0"])
def test_a_distance_is_a_number(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text(f"{LINES}relative_position_biases.{DISTANCE} = {text}\n")
    with pytest.raises(ArchitectureError, match=DISTANCE):
        check_t5x_settings(path, SHAPES, (37, 6))


def test_a_macro_that_nothing_takes_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text(f"{LINES}DROPOUT_RATE = %gin.REQUIRED\n")
    assert check_t5x_settings(path, SHAPES, (37, 6)) == ()


def test_a_class_is_no_macro(tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text(f"{LINES}T5Config = 5\n")
    with pytest.raises(ArchitectureError, match="T5Config of the gin file"):
        check_t5x_settings(path, SHAPES, (37, 6))


@pytest.mark.parametrize("kept", [0, 3])
def test_what_is_missing_is_named(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "config.gin"
    path.write_text("\n".join(LINES.splitlines()[:kept]))
    with pytest.raises(ArchitectureError, match=r"says nothing of T5Config.num_\w+coder_layers"):
        check_t5x_settings(path, SHAPES, (37, 6))


def test_missing_activations_do_not_make_another_model(tmp_path: Path) -> None:
    gin = LINES.replace("network.T5Config.mlp_activations = ('gelu', 'linear')\n", "")
    run = write_run(tmp_path, CONFIG, gin)
    with pytest.raises(ArchitectureError, match="mlp_activations") as refused:
        convert(run, tmp_path / "out", to="pytorch")
    assert "('relu',) in T5X" in str(refused.value)


def test_the_scope_of_an_evaluation_and_a_vocabulary(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """What holds in another scope is not the model's; GELU alone is T5X's, which is approximated."""
    plain = {**CONFIG, "feed_forward_proj": "gelu_new"}
    gin = LINES.replace("('gelu', 'linear')", "('gelu',)")
    gin += "eval/network.T5Config.dropout_rate = 0.5\neval/network.T5Config:\n  num_heads = 9\n"
    run = write_run(tmp_path, plain, gin + "network.T5Config.vocab_size = 99999999999\n")
    outcome = cli("convert", run, tmp_path / "out", "--to", "pytorch")
    assert outcome.code == 0
    told = " ".join((outcome.out + outcome.err).split())
    assert "the embeddings have 37 rows and config.gin says T5Config.vocab_size 99999999999" in told
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    expected = {"dropout_rate": 0.25, "num_heads": 2, "feed_forward_proj": "gelu_new"}
    assert {key: made[key] for key in expected} == expected
    assert made["model_type"] == "t5"
