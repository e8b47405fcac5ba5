"""Decoding with a KV cache works under each name that releases of transformers give the cache argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from equipoise.exporters.cache_names import CACHE_ARGUMENTS, cache_argument, cache_of
from equipoise.exporters.wrap_model import flatten_outputs
from equipoise.validators.backends.classes import pytorch

pytestmark = pytest.mark.transformers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOKENS = np.array([[3, 5, 2, 7, 4, 1], [6, 2, 4, 4, 5, 3]])


class Renamed:
    """A model whose ``forward`` takes and returns the cache under the name of another release."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        self.dtype, self.name = model.dtype, name
        own = cache_argument(model)

        def forward(**inputs: Any) -> dict[str, Any]:
            given = {own if key == name else key: value for key, value in inputs.items()}
            return {name if key == own else key: value for key, value in model(**given).items()}

        parameters = inspect.signature(model.forward).parameters.values()
        renamed = [one.replace(name=name if one.name == own else one.name) for one in parameters]
        forward.__signature__ = inspect.Signature(renamed)  # type: ignore[attr-defined]
        self.forward: Callable[..., dict[str, Any]] = forward

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        return self.forward(**inputs)


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("name", CACHE_ARGUMENTS)
@torch.no_grad()
def test_each_name_of_the_cache(name: str) -> None:
    model = Renamed(gpt2(), name)
    session = pytorch.Session(model, {}, {})
    assert session.caches
    assert cache_argument(model) == name
    full = session.run({"input_ids": TOKENS}, {"use_cache": False})["logits"]
    _, state = session.step({"input_ids": TOKENS[:, :3]}, {}, None, None)
    outputs, state = session.step({"input_ids": TOKENS[[1, 0], 3:4]}, {}, state, [1, 0])
    torch.testing.assert_close(outputs["logits"][[1, 0], 0], full[:, 3])
    outputs, _ = session.step({"input_ids": TOKENS[[1, 0], 4:]}, {}, state, None)
    torch.testing.assert_close(outputs["logits"][[1, 0]], full[:, 4:])
    assert list(flatten_outputs({"logits": full, name: (full, full)})) == ["logits"]


def test_name_in_the_installed_transformers() -> None:
    model = gpt2()
    outputs = model(torch.tensor(TOKENS), use_cache=True)
    assert cache_argument(model) in outputs
    assert cache_of(outputs).get_seq_length() == TOKENS.shape[1]
    with pytest.raises(KeyError, match="no KV cache among the outputs logits"):
        cache_of({"logits": None})


def test_a_recurrent_state_is_no_kv_cache() -> None:
    """A step of Mamba with a decoder's inputs, including the mask of all tokens, gives other logits than the whole sequence."""
    config = transformers.MambaConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, state_size=4
    )
    assert cache_argument(transformers.MambaForCausalLM(config)) == ""
