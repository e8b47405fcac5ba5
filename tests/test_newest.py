"""README's table of versions is the one that ``make newest`` wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def newest() -> Any:
    spec = spec_from_file_location("tools_newest", ROOT / "tools" / "newest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_matches_the_results(newest: Any) -> None:
    results = json.loads(newest.RESULTS.read_text(encoding="utf-8"))
    assert newest.render_table(results) in newest.README.read_text(encoding="utf-8")
    tried = [row["tried"] for row in results["rows"]]
    for version in (*newest.TRANSFORMERS, *newest.PYTHONS):
        assert any(one.endswith(f" {version}") for one in tried)
    assert all(row["result"] in ("passed", "skipped") for row in results["rows"])


def test_the_table_is_written_between_the_markers(newest: Any) -> None:
    page = f"before\n{newest.BEGIN}old\n{newest.END}after\n"
    assert newest.replace_table(page, "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="README has no"):
        newest.replace_table("before\n", "new\n")


def test_a_failure_is_a_row(newest: Any) -> None:
    def fails(row: Any) -> None:
        row.tried, row.detail = "it", "one passed"
        newest.run(sys.executable, "-c", "raise SystemExit('broken | here')")

    row = newest.run_attempt(fails)
    assert (row.result, row.detail) == ("failed", "one passed; broken / here")


def test_a_missing_python_is_skipped(newest: Any, tmp_path: Path) -> None:
    row = newest.run_attempt(newest.try_converting, tmp_path, "3.99", tmp_path / "none.whl")
    assert (row.result, row.detail) == ("skipped", "no python3.99 here")
    here = newest.find_python(f"3.{sys.version_info.minor}")
    output = subprocess.run([here, "-V"], capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"Python 3.{sys.version_info.minor}.")
