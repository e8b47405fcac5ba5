"""The HTML report is well-formed and safe, and has every metric."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import sample_reports

from equipoise.validators.audit.content.report import AuditReport, UnaccountedWeight
from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.judgement.results import ModuleError, Report, Verdict
from equipoise.validators.report.html.error_by_depth import error_by_depth_chart
from equipoise.validators.report.html.histogram import histogram_chart
from equipoise.validators.report.html.markup import VOID_ELEMENTS
from equipoise.validators.report.html.page import to_html, verdict_sentence
from equipoise.validators.report.html.samples import answers_section

NAN, INF = float("nan"), float("inf")


class HtmlReader(HTMLParser):
    """Collects elements, attributes and visible text; raises an error if elements are not nested properly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def read_html(report: Report) -> HtmlReader:
    reader = HtmlReader()
    reader.feed(to_html(report))
    reader.close()
    assert reader.open == []
    reader.text = re.sub(r"\s+", " ", reader.text)
    return reader


MANY_CASES = sample_reports.backend(
    cases=tuple(sample_reports.case(f"case {index}") for index in range(30))
)
DEEP = sample_reports.backend(
    depth=tuple(
        ModuleError(f"model.layers.{n // 9}.part{n % 9}", 10.0 ** (n % 5 - 9), 1e-8)
        for n in range(400)
    )
)
ODD = sample_reports.backend(
    cases=(
        sample_reports.case(
            "single",
            sample_reports.output(
                Verdict.DIVERGED, replace(sample_reports.NOISE, max_abs=NAN, rms=INF), ratio=NAN
            ),
        ),
        sample_reports.case(
            "batch",
            replace(sample_reports.output(Verdict.DIVERGED), error=None, noise=None, ratio=None),
        ),
    ),
    depth=(ModuleError("a", NAN, 0.0), ModuleError("", INF, NAN)),
    answers=({"score": NAN},),
)
REPORTS = {
    "full": sample_reports.full_report(),
    "none": sample_reports.report(),
    "failures alone": sample_reports.report(
        sample_reports.failed_backend(), sample_reports.failed_backend()
    ),
    "absent alone": sample_reports.report(sample_reports.absent_backend()),
    "many cases": sample_reports.report(MANY_CASES),
    "deep": sample_reports.report(DEEP),
    "rounded": sample_reports.report(sample_reports.rounded_backend()),
    "odd figures": sample_reports.report(ODD),
    "hostile": sample_reports.hostile_report(),
    "no cases at all": sample_reports.report(
        sample_reports.backend(cases=(), depth=(), answers=())
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_page_is_well_formed(name: str) -> None:
    reader = read_html(REPORTS[name])
    assert reader.tags.count("h1") == 1
    assert "script" not in reader.tags
    assert reader.tags.count("table") == reader.tags.count("caption")
    # It must not reach for anything: links lead within the page, pictures are in it.
    assert all(link.startswith(("#backend-", "data:")) for link in reader.links)
    assert {link[1:] for link in reader.links if link.startswith("#")} == set(reader.ids)


def test_page_shows_the_metrics() -> None:
    text = read_html(sample_reports.full_report()).text
    for part in (
        "text-classification",
        "Bert For Sequence Classification",
        "5 backends against PyTorch: 1 within noise, 1 decision-safe, 1 diverged, 1 failed, 1 not run.",
        "2026-01-02 03:04:05 UTC",
        "pytorch (faulty) ≠ diverged single, logits 4.3 1e-07 4.3e+07 3 of 4 0.25 2 ms 758 MB",
        "single logits ≠ diverged 4.9 4.3 2e-07 1e-07 1e-07 4.3e+07 1.2 1.6e+07 -0.98 1e-13 0.25",
        "single , changed decision: label: A -> B",
        "module bert.encoder.layer.1.attention class BertAttention case single relative error 1.3",
        "name in the backend layer_1/attention errors of its inputs bert.encoder.layer.0 1.1e-07",
        "reproduced by repro/faulty/repro.py",
        "first beyond noise: bert.encoder.layer.1.attention",
        "classifier: error ∞, noise 2e-07",
        "label: POSITIVE score: 0.9994 label: ≠ NEGATIVE score: ≠ 0.7765",
        "It failed: batch: the worker crashed during 'run' (signal 11)",
        "Not run: it has no environment.",
        "it does not take token_type_ids",
        "rms_factor 8 Correct backends sum in another order",
        "Command to repeat the validation equipoise validate /models/bert",
    ):
        assert part in text, part


def test_verdicts_in_words_without_backends() -> None:
    assert verdict_sentence(sample_reports.report()).startswith("Only the reference was run")


def test_hostile_texts_are_escaped() -> None:
    text = to_html(sample_reports.hostile_report())
    text.encode("utf-8")
    shown = "</style><script>alert('x')</script>\"'&<img src=x onerror=alert(1)>[31m?"
    assert shown in unescape(text)
    assert "<script" not in text
    assert text.count("</style>") == 1
    assert "\x1b" not in text


def test_histogram_shows_the_counts() -> None:
    chart = histogram_chart(
        "flax", sample_reports.histogram(-7, 10), sample_reports.histogram(-8, 1000)
    )
    assert chart is not None
    svg = ElementTree.fromstring(chart)
    bars = {
        css: [float(one.attrib["height"]) for one in svg if one.attrib.get("class") == css]
        for css in ("noise", "error")
    }
    assert len(bars["noise"]) == len(bars["error"]) == 2
    assert bars["noise"][1] == bars["error"][0] == 0
    # A log axis that begins 0.4 decades below 1.
    assert bars["noise"][0] / bars["error"][1] == pytest.approx(3.4 / 1.4, rel=0.01)
    titles = [one.text for one in svg.iter("title")]
    assert "10⁻⁷ to 10⁻⁶: 10 here, 0 reference" in titles
    assert histogram_chart("flax", [0] * 17, [0] * 17) is None


def test_error_by_depth() -> None:
    points = (
        ModuleError("a.0", 1e-8, 1e-8),
        ModuleError("a.1", 1e-6, 1e-8),
        ModuleError("b", 0.0, NAN),
    )
    chart = error_by_depth_chart("flax", points, "a.1")
    assert chart is not None
    svg = ElementTree.fromstring(chart)
    noise, error = (one.attrib["points"].split() for one in svg.iter("polyline"))
    ys = [float(pair.partition(",")[2]) for pair in error]
    assert ys[1] < ys[0] < ys[2]  # the larger the error, the higher
    assert float(noise[0].partition(",")[2]) == ys[0]
    assert float(noise[2].partition(",")[2]) < ys[1]  # NaN lies above all
    (mark,) = (one for one in svg.iter("circle") if one.attrib["class"] == "first")
    assert f"{mark.attrib['cx']},{mark.attrib['cy']}" == error[1]
    assert error_by_depth_chart("flax", ()) is None


def test_answers_with_arrays_and_images() -> None:
    image = pytest.importorskip("PIL.Image")
    plain, changed = image.new("L", (8, 4)), image.new("L", (8, 4), 255)
    theirs = {"mask": plain, "audio": np.zeros((1, 50)), "vector": [[0.5] * 20], "kept": plain}
    ours = {"mask": changed, "audio": np.ones((1, 50)), "vector": [[0.5] * 20], "kept": plain}
    shown = answers_section(["x"], [theirs], [ours], "flax")
    assert shown is not None
    assert shown.count("data:image/png;base64,") == 4
    marked = re.findall("<mark>≠ (.*?)</mark>", shown)
    assert marked == [
        "image 8 x 4, L",
        "array 1 x 50 of float64, from 1 to 1, mean 1",
    ]
    assert "array 1 x 20 of float64, from 0.5 to 0.5, mean 0.5" in shown
    assert answers_section(["x"], [theirs], [], "flax") is None


def test_missing_answers() -> None:
    shown = answers_section(
        [], [[{"word": "Anna"}, {"word": "Rome"}]], [[{"word": "Anna"}]], "flax"
    )
    assert shown is not None
    assert "≠ missing: [0].word, [1].word" in shown
    assert json.dumps("Rome")[1:-1] in shown


def test_computed_precision_and_range_are_shown() -> None:
    reader = read_html(REPORTS["rounded"])
    assert "Precision declared float32, computed as TensorFloat-32: its error is 1.1" in reader.text
    assert "last within noise h.0.ln" in reader.text
    assert "first beyond noise h.0.attn" in reader.text
    assert "case single, step 2" in reader.text


def test_what_the_user_allows_is_shown() -> None:
    text = read_html(sample_reports.report(tolerance=Tolerance(atol=0.25, rtol=0.125))).text
    assert "atol 0.25" in text
    assert "rtol 0.125" in text


def test_order_of_the_page() -> None:
    audit = AuditReport(not_accounted=(UnaccountedWeight("w", "float32", (3,), "row 1 is zero"),))
    with_all = replace(
        sample_reports.diverged_backend(),
        computed=sample_reports.rounded_backend().computed,
        audit=audit,
    )
    page = to_html(sample_reports.report(with_all))
    headings = [unescape(one) for one in re.findall(r"<h[23][^>]*>([^<]*)", page)]
    assert headings[0] == "Verdicts"
    own = headings[headings.index("Precision") :]
    assert own[:4] == ["Precision", "First divergence", "Weights", "Reasons"]
    assert headings[-3:] == [
        "Tolerance",
        "Versions and hardware",
        "Command to repeat the validation",
    ]
    places = [
        page.index(text)
        for text in (
            "<h3>Reasons",
            "Metrics of pytorch (faulty)",
            "Distribution of errors",
            "Error along the depth",
            "Results for the samples of the first case",
        )
    ]
    assert places == sorted(places)


def test_latency_is_not_that_of_a_compilation() -> None:
    """The first pass of a case may compile; the slowest pass is named beside the median of the others."""
    slow = sample_reports.case("single", seconds=(3.0, 0.004, 0.006))
    reader = read_html(sample_reports.report(sample_reports.backend(cases=(slow,))))
    assert "5 ms, 3 passes, the slowest 3 s" in reader.text
