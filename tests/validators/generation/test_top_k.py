"""The candidates of a beam search are those that sorting everything finds, ties and NaN included."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.validators.generation.beam_search import _top_k


@pytest.mark.parametrize("count", [1, 4, 8, 30, 40])
def test_as_a_stable_sort(count: int) -> None:
    generator = np.random.default_rng(count)
    scores = generator.integers(0, 9, (3, 30)).astype(np.float64)
    scores[0, 3:7] = np.nan
    scores[1, 2:] = np.nan
    scores[2, 5:9] = -np.inf
    expected = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    values, places = _top_k(scores, count)
    assert np.array_equal(places, expected)
    assert np.array_equal(values, np.take_along_axis(scores, expected, axis=-1), equal_nan=True)
