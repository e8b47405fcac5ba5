"""Early writing to disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from equipoise.convert.files.writeback import start_writeback

BYTES = np.random.default_rng(0).bytes(1 << 20)


def test_writeback_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(BYTES)
    start_writeback(path, 0, len(BYTES))
    start_writeback(path, 5, 3 * len(BYTES))
    assert path.read_bytes() == BYTES
