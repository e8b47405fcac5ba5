"""TorchScript: a model that makes a list of the rows of a batch is traced for batches of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

LLAVA = Path(__file__).parents[3] / "fixtures" / "tasks" / "image-text-to-text"

pytestmark = [pytest.mark.transformers, pytest.mark.slow]


def test_rows_of_a_batch_are_kept_together(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A plain trace has as many images as its example."""
    outcome = cli(
        *("export", LLAVA, tmp_path / "out", "--to", "torchscript"),
        *("--cases", "greedy,batch-5", "--threads", 1, "--json"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.data["exporter"]["way"] == "rows"
    assert [(one["way"], one["verdict"]) for one in outcome.data["tried"]] == [
        ("trace", "failed"),
        ("rows", "identical"),
    ]
