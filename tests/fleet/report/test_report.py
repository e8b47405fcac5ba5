"""The page and the JSON over all results of a fleet."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser_pages import measure_pages, needs_browser

from equipoise.cli.main import run as command
from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.report.page import to_html
from equipoise.fleet.report.rows import Row, read_rows

HOSTILE = '<script>alert("x")</script>'


def result(job: Job, status: str, **more: Any) -> dict[str, Any]:
    run = {"seconds": 2.5, "finished": 1.0, "host": "h"}
    head = {"key": job.key, "name": job.name, **job.as_dict(), "status": status}
    return {**head, "output": None, "summary": {}, "error": None, "run": run, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four jobs: one good, one refused, one that diverged, one that is left."""
    store = ResultStore.create(tmp_path / "out")
    jobs = [Job("validate", name) for name in ("good", HOSTILE, "bad", "waiting")]
    store.add_jobs(jobs)
    output = store.output_path(jobs[0])
    output.mkdir()
    (output / "report.json").write_text("{}")
    summary = {
        "verdict": "within noise",
        "task": "fill-mask",
        "model_type": "bert",
        "backends": {"onnx": "within noise"},
    }
    store.write(
        result(jobs[0], "ok", output=output.relative_to(store.folder).as_posix(), summary=summary)
    )
    store.write(result(jobs[1], "refused", error={"message": f"{HOSTILE}\nmore"}))
    store.write(
        result(
            jobs[2],
            "difference",
            summary={**summary, "verdict": "diverged", "backends": {"onnx": "diverged"}},
        )
    )
    return store.folder


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def test_the_worst_comes_first(folder: Path) -> None:
    assert [(row.source, row.status) for row in read_rows([folder])] == [
        (HOSTILE, "refused"),
        ("bad", "difference"),
        ("waiting", "left"),
        ("good", "ok"),
    ]


def test_page(folder: Path) -> None:
    page = folder.parent / "pages" / "fleet.html"
    page.parent.mkdir()
    assert command(["fleet", "report", str(folder), "--html", str(page)]) == 0
    text = page.read_text()
    elements = Elements(text)
    rows = [one for one in elements.all("div") if "data-text" in one]
    assert [one["data-status"] for one in rows] == ["refused", "difference", "left", "ok"]
    (link,) = elements.all("a")
    assert (page.parent / str(link["href"])).resolve() == next(folder.glob("outputs/*/report.json"))
    assert HOSTILE not in text
    policy = next(one["content"] for one in elements.all("meta") if one.get("http-equiv"))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


def test_filters_are_those_that_have_a_choice(folder: Path) -> None:
    elements = Elements(to_html(read_rows([folder]), folder / "page.html"))
    assert [one["name"] for one in elements.all("select")] == ["status"]


def test_bars_have_the_shares(folder: Path) -> None:
    text = to_html(read_rows([folder]), folder / "page.html")
    assert text.count("width:25.00%") == 4
    assert text.count("width:50.00%") == 4  # model type and backend: one of two


def test_charts_are_as_long_as_there_are_many() -> None:
    """Six of one model type, three of another: a bar that is half as long, with a third that is not ok."""
    rows = [Row(str(i), "a", "ok" if i else "failed", model_type="bert") for i in range(6)]
    rows += [Row(f"1{i}", "b", "refused" if i else "ok", model_type="t5") for i in range(3)]
    text = to_html(rows, Path("page.html"))
    lines = re.findall(r"<th .*?>(\w+)</span></th><td>(\d)</td><td><div .*?style=\"(.*?)\"", text)
    assert lines == [("t5", "3", "width:50.00%"), ("bert", "6", "width:100.00%")]


def test_rows_lie_in_blocks() -> None:
    """A browser lays out those that are seen: filters of 10,000 rows take milliseconds."""
    rows = [Row(str(i), f"model-{i}", "ok") for i in range(201)]
    text = to_html(rows, Path("page.html"))
    blocks = text.split('<div class="block">')[1:]
    assert [block.count('class="row"') for block in blocks] == [100, 100, 1]


@needs_browser
@pytest.mark.slow
def test_nothing_overflows(tmp_path: Path) -> None:
    long = "AVeryLongNameWithoutAnyPlaceToBreakIt" * 5
    many = [
        Row(str(i), f"/{long}/{i}", "failed", "", long, long, {long: "diverged"}, long, 1e5)
        for i in range(300)
    ]
    pages = {"long": to_html(many, Path("page.html")), "none": to_html([], Path("page.html"))}
    for name, width, needed, _ in measure_pages(pages, tmp_path):
        assert needed <= width, f"{name} needs {needed} pixels at {width}"


def test_json_of_several_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ResultStore.create(folder.parent / "other")
    job = Job("validate", "waiting")
    other.add_jobs([job])
    other.write(result(job, "ok"))
    assert command(["fleet", "report", str(folder), str(other.folder), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(one["source"] for one in found) == sorted([HOSTILE, "bad", "good", "waiting"])


def test_a_page_for_ten_thousand_jobs_is_small() -> None:
    rows = [
        Row(f"{i:032x}", f"owner/model-{i}", "ok", "converted", "flax", "bert")
        for i in range(10_000)
    ]
    assert len(to_html(rows, Path("page.html"))) < 6_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no report is asked for"), (["--html", "MINE"], "Equipoise did not write it")],
)
def test_bad_input(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = folder.parent / "mine.html"
    mine.write_text("mine")
    given = [str(mine) if one == "MINE" else one for one in arguments]
    assert command(["fleet", "report", str(folder), *given]) == 2
    assert message in capsys.readouterr().err
    assert mine.read_text() == "mine"
