"""Looks at pages in a browser, at widths of phones and screens."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 390, 768, 1280, 1600)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium to look at the page with"
)

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
