"""Checkpoints for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.fixtures.synthetic import write_small_bert


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "bert")
