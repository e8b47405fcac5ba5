"""In a browser, the HTML report never scrolls sideways and logs no error."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import sample_reports

from equipoise.validators.judgement.results import ModuleError
from equipoise.validators.report.html import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 390, 768, 1280, 1600)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to look at the page with"),
    pytest.mark.slow,
]

# Each page in frames of all widths; the frame's own policy holds, and this script is outside of it.
MEASURE = """<!doctype html><body>%s<script>
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument.documentElement;
    return [frame.title, page.clientWidth, page.scrollWidth, page.scrollHeight];
  });
  document.body.textContent = "BEGIN" + JSON.stringify(found) + "END";
}, 300));
</script>"""


def measure_pages(pages: dict[str, str], folder: Path) -> list[tuple[str, int, int, int]]:
    """Returns title, width, scroll width and height of every page at every width."""
    frames = "".join(
        f'<iframe title="{name}" width="{width}" height="800" style="border:0" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for name, text in pages.items()
        for width in WIDTHS
    )
    path = folder / "frames.html"
    path.write_text(MEASURE % frames, encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync --hide-scrollbars"
    quiet = "--disable-background-networking --disable-component-update --virtual-time-budget=5000"
    command = [
        str(CHROMIUM),
        *options.split(),
        *quiet.split(),
        f"--user-data-dir={folder / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--window-size=1700,1000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # The script's own text comes after what it wrote.
    found = html.unescape(done.stdout.partition("BEGIN")[2].partition("END")[0])
    return [tuple(one) for one in json.loads(found)]


def test_nothing_overflows(tmp_path: Path) -> None:
    deep = tuple(ModuleError(f"model.layers.{n // 9}.part{n % 9}", 1e-7, 1e-8) for n in range(300))
    long = "AVeryLongNameWithoutAnyPlaceToBreakIt" * 5
    pages = {
        "full": page(sample_reports.full_report()),
        "hostile": page(sample_reports.hostile_report()),
        "none": page(sample_reports.report()),
        "deep": page(
            sample_reports.report(
                sample_reports.backend(long, depth=deep, source=f"/{long}", notes=(long,))
            )
        ),
        "names": page(
            sample_reports.report(
                sample_reports.diverged_backend(), class_name=long, model=f"/{long}", command=long
            )
        ),
    }
    found = measure_pages(pages, tmp_path)
    assert len(found) == len(pages) * len(WIDTHS)
    for name, width, needed, height in found:
        assert width in WIDTHS
        assert height > 800, name
        assert needed <= width, f"{name} needs {needed} pixels at {width}"
