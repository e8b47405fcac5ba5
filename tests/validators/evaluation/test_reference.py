"""The reference follows its own tokens in one pass, and in the loop where one pass computes something else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from equipoise.validators.core.request import Request
from equipoise.validators.core.types import Arrays, Batch, Case
from equipoise.validators.evaluation.context import ReferenceOutputs
from equipoise.validators.evaluation.reference import ReferenceModels, is_same_function
from equipoise.validators.generation.teacher_forcing import OPTION

LOGITS = np.linspace(-1, 1, 64).reshape(1, 8, 8)
TOKENS = np.arange(8)[None]


def test_outputs_of_one_function() -> None:
    for error, same in ((1e-6, True), (0.005, True), (0.05, False)):
        found = {"logits": LOGITS + error}
        assert is_same_function(found, {"logits": LOGITS}, 0.01, "float32") == same
    assert not is_same_function({"logits": LOGITS[:, 1:]}, {"logits": LOGITS}, 0.01, "float32")


@pytest.mark.parametrize(("error", "passes"), [(1e-6, ["one"]), (0.5, ["one", "loop"])])
def test_the_loop_is_run_where_one_pass_is_far(error: float, passes: list[str]) -> None:
    called = []

    def run(runner: object, model: object, batch: Batch, follow: Arrays) -> Arrays:
        forced = bool(batch.case.options.get(OPTION))
        called.append("one" if forced else "loop")
        return {"logits": LOGITS + (error if forced else 0.0), "sequences": follow["sequences"]}

    request = Request(Path("model"), progress=lambda text: None)
    context: Any = SimpleNamespace(
        task=SimpleNamespace(run=run),
        model=None,
        request=request,
        pool=SimpleNamespace(hello=lambda *_, **__: {}),
    )
    models = ReferenceModels.__new__(ReferenceModels)
    models.context = context
    batch = Batch(Case("greedy", ()), {})
    measured = ReferenceOutputs(batch, {"logits": LOGITS, "sequences": TOKENS}, {}, (), ())
    found = models._follow(None, measured, "truth")  # type: ignore[arg-type]
    assert called == passes
    assert np.abs(found["logits"] - LOGITS).max() < 0.01
