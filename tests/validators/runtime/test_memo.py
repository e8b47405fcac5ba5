"""Equal passes run once; passes that differ in an input, an argument or a cache do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.validators.core.types import Array, Arrays
from equipoise.validators.runtime.memo import MemoRunner


class Counter:
    """Counts its passes and returns their number."""

    accepts = frozenset({"input_ids"})
    caches = True
    passes = 0

    def run(self, inputs: Mapping[str, Array], **kwargs: Any) -> Arrays:
        self.passes += 1
        return {"logits": np.full(1, self.passes)}

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> tuple[Arrays, str]:
        self.passes += 1
        return {"logits": np.full(1, self.passes)}, "state"


def test_equal_passes_run_once() -> None:
    model = Counter()
    memo = MemoRunner(model)
    assert memo.accepts == model.accepts
    assert memo.caches
    one, two = np.arange(3), np.arange(1, 4)
    assert memo.run({"input_ids": one})["logits"] == [1]
    assert memo.run({"input_ids": one.copy()})["logits"] == [1]
    assert memo.run({"input_ids": two})["logits"] == [2]
    assert memo.run({"input_ids": one[:2]})["logits"] == [3]
    assert memo.run({"input_ids": one, "attention_mask": one})["logits"] == [4]
    assert memo.run({"input_ids": one}, logits_to_keep=2)["logits"] == [5]
    assert memo.run({"input_ids": two})["logits"] == [2]
    assert memo.step({"input_ids": one})[0]["logits"] == [6]
    assert memo.step({"input_ids": one})[0]["logits"] == [7]
