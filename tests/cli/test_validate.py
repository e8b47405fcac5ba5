"""``validate`` with every report at once, on a backend that passes and one that crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
BERT = ROOT / "fixtures" / "tasks" / "text-classification"
CRASH = ROOT / "tests" / "validators" / "faulty" / "crash.py"


@pytest.mark.transformers
@pytest.mark.slow
def test_reports(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    page, xml, data = tmp_path / "new" / "r.html", tmp_path / "r.xml", tmp_path / "r.json"
    files = ["--report", page, "--junit", xml, "--json", data]
    names = ["--backends", f"pytorch,{CRASH}", "--cases", "single,batch", "--threads", 1]
    outcome = cli("validate", BERT, *names, *files)
    assert outcome.code == 3
    assert outcome.out.endswith("verdict: failed\n")

    values = json.loads(data.read_text())
    fine, dead = values["backends"]
    assert [fine["verdict"], dead["verdict"]] == ["identical", "failed"]
    # The page requests the error by depth; its line has a point for every module.
    assert len(fine["depth"]) > 20
    text = page.read_text(encoding="utf-8")
    assert (
        text.count("<svg") == 4
    )  # histogram and depth of one, histograms of the other and the reference
    assert "signal 11" in text
    assert values["command"] in text

    suites = ElementTree.parse(xml).getroot()
    assert [suite.attrib["errors"] for suite in suites] == ["0", "1"]
    assert not list(tmp_path.rglob("*.equipoise"))
