"""Cut-offs of sampling are those of transformers; a stop string ends a text in the middle of a token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from equipoise.validators.generation.sampling import TokenSampler, warp_scores
from equipoise.validators.generation.settings import GenerationSettings, Sampling
from equipoise.validators.generation.stop_strings import StopStrings

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

SCORES = np.random.default_rng(3).normal(scale=2.0, size=(5, 60))
OFF = {"top_k": 0}


@pytest.mark.parametrize(
    ("settings", "warper", "arguments"),
    [
        ({"temperature": 0.7}, "TemperatureLogitsWarper", {"temperature": 0.7}),
        ({"top_k": 7}, "TopKLogitsWarper", {"top_k": 7}),
        ({"top_p": 0.8}, "TopPLogitsWarper", {"top_p": 0.8}),
        ({"min_p": 0.1}, "MinPLogitsWarper", {"min_p": 0.1}),
        ({"typical_p": 0.6}, "TypicalLogitsWarper", {"mass": 0.6}),
        ({"epsilon_cutoff": 0.02}, "EpsilonLogitsWarper", {"epsilon": 0.02}),
        ({"eta_cutoff": 0.05}, "EtaLogitsWarper", {"epsilon": 0.05}),
    ],
)
@pytest.mark.parametrize("keep", [1, 2])
def test_cut_offs_are_those_of_transformers(
    settings: dict[str, Any], warper: str, arguments: dict[str, Any], keep: int
) -> None:
    from transformers.generation import logits_process

    if warper != "TemperatureLogitsWarper":
        arguments = {**arguments, "min_tokens_to_keep": keep}
    theirs = getattr(logits_process, warper)(**arguments)(None, torch.from_numpy(SCORES)).numpy()
    ours = warp_scores(Sampling(1, **{**OFF, **settings}), SCORES, keep)
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(theirs))
    np.testing.assert_allclose(ours[np.isfinite(ours)], theirs[np.isfinite(theirs)])


def test_tokens_are_drawn_with_their_probabilities() -> None:
    sampling = Sampling(seed=4, top_k=0)
    sampler = TokenSampler(GenerationSettings(sampling=sampling), sampling)
    scores = np.log(np.tile([[0.5, 0.3, 0.2]], (20000, 1)))
    shares = np.bincount(sampler.draw(scores), minlength=3) / 20000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.02)


def test_stop_strings_end_inside_a_token() -> None:
    pieces = ["ab", "cde", "f", "abcdef"]
    tokenizer = SimpleNamespace(
        convert_ids_to_tokens=lambda ids: (
            pieces[ids] if isinstance(ids, int) else [pieces[one] for one in ids]
        ),
        convert_tokens_to_string="".join,
    )

    class Callable(SimpleNamespace):
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [3]}

    stop = StopStrings(Callable(**vars(tokenizer)), ["bcd", "zz"])
    assert stop(np.array([[0, 1], [1, 1], [1, 2]])) == [True, False, False]
    # What ended before the last token does not end a text.
    assert stop(np.array([[0, 1, 2]])) == [False]
