"""A SavedModel runs where only TensorFlow is installed, as on a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.transformers]

BERT = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"
SERVER_SCRIPT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("equipoise", "torch", "transformers", "jax", "jaxlib", "flax", "onnx"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Refused())
import numpy as np
import tensorflow as tf

program = tf.saved_model.load(sys.argv[1])
serve = program.signatures["serving_default"]
with np.load(sys.argv[2]) as stored:
    found = serve(**{name: tf.constant(stored[name].astype("int32")) for name in stored.files})
np.savez(sys.argv[3], **{name: value.numpy() for name, value in found.items()})
"""


def test_runs_in_a_process_with_only_tensorflow(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The export's verdict passes, and a process without Equipoise and PyTorch computes the same outputs."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    outcome = cli("export", BERT, tmp_path / "out", "--to", "saved-model", "--threads", 1)
    assert outcome.code == 0, outcome.out + outcome.err

    generator = np.random.default_rng(0)
    inputs = {
        "input_ids": generator.integers(5, 90, (3, 11)),
        "attention_mask": np.tril(np.ones((3, 11), np.int64), 8),
        "token_type_ids": generator.integers(0, 2, (3, 11)),
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    folder = tmp_path / "out" / "saved_model" / "1"
    files = [str(folder), str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SERVER_SCRIPT, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr

    model = transformers.AutoModelForSequenceClassification.from_pretrained(BERT).eval()
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(one) for name, one in inputs.items()}).logits
    with np.load(tmp_path / "outputs.npz") as stored:
        assert stored.files == ["logits"]
        scale = float(np.abs(expected.numpy()).max())
        np.testing.assert_allclose(stored["logits"], expected.numpy(), rtol=0, atol=1e-5 * scale)
