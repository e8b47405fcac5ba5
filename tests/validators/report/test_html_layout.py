"""In a browser, the HTML report never scrolls sideways and logs no error."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_reports
from browser_pages import WIDTHS, measure_pages, needs_browser

from equipoise.validators.judgement.results import ModuleError
from equipoise.validators.report.html.page import to_html as page

pytestmark = [needs_browser, pytest.mark.slow]


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
