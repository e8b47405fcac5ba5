"""Reports for machines: JUnit, JSON, and the summary rows that all reports share."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
import sample_reports

from equipoise.cli.validate import exit_code
from equipoise.convert.core.errors import InputError
from equipoise.validators.judgement.results import Divergence, Report, Verdict, to_json_value
from equipoise.validators.report import json_report as report_json
from equipoise.validators.report import junit
from equipoise.validators.report.json_report import from_json, to_json
from equipoise.validators.report.summary import (
    describe_divergence,
    describe_place,
    look_at,
    remarks,
    summary_row,
    summary_rows,
    table_lines,
    to_text,
)

REPORT = {
    *(
        "generator",
        "schema",
        "model",
        "model_type",
        "class_name",
        "task",
        "precision",
        "device",
        "tolerance",
    ),
    *("date", "machine", "samples", "reference", "backends", "command", "verdict"),
}
BACKEND = {
    *("backend", "label", "origin", "source", "about", "versions", "cases", "failure", "absent"),
    *("notes", "depth", "divergence", "seconds", "peak_bytes", "answers", "verdict", "quantized"),
    *("companions", "audit", "computed"),
}
CASE = {"case", "outputs", "decisions", "flips", "seconds", "failure", "verdict"}
OUTPUT = {
    *("name", "verdict", "reason", "error", "noise", "ratio", "kl", "margin", "errors"),
    "floor",
}
DISTANCE = {"count", "max_abs", "rms", "max_rel", "ulp", "cosine", "scale", "nonfinite"}
DIVERGENCE = {
    *("case", "module", "kind", "there", "error", "noise", "inputs", "note", "repro"),
    *("after", "before", "step"),
}


def test_json_names_are_frozen() -> None:
    """Readers rely on these names; a change needs a new ``schema``."""
    values = json.loads(report_json.to_json(sample_reports.full_report()))
    assert values["schema"] == 1
    assert set(values) == REPORT
    bad = values["backends"][0]
    assert set(bad) == set(values["reference"]) == BACKEND
    assert set(bad["cases"][0]) == CASE
    assert set(bad["cases"][0]["outputs"][0]) == OUTPUT
    assert set(bad["cases"][0]["outputs"][0]["error"]) == DISTANCE
    assert set(bad["divergence"]) == DIVERGENCE
    assert set(bad["depth"][0]) == {"path", "error", "noise", "ratio", "beyond"}
    names = {"rms_factor", "max_factor", "floor", "ceiling", "atol", "rtol"}
    assert set(values["tolerance"]) == names
    verdicts = [one["verdict"] for one in values["backends"]]
    assert verdicts == ["diverged", "within noise", "decision-safe", "failed", "absent"]
    assert bad["cases"][0]["outputs"][0]["error"]["max_abs"] == 4.9


def refused(name: str) -> Any:
    raise ValueError(name)


def test_json_has_no_nan() -> None:
    odd = replace(sample_reports.NOISE, max_abs=math.nan, rms=math.inf)
    one = sample_reports.backend(
        cases=(sample_reports.case("single", sample_reports.output(error=odd, ratio=-math.inf)),)
    )
    values = json.loads(report_json.to_json(sample_reports.report(one)), parse_constant=refused)
    found = values["backends"][0]["cases"][0]["outputs"][0]
    assert (found["error"]["max_abs"], found["error"]["rms"], found["ratio"]) == (None, None, None)


def test_json_of_hostile_texts() -> None:
    values = json.loads(report_json.to_json(sample_reports.hostile_report()).encode("utf-8"))
    assert values["task"] == sample_reports.HOSTILE.replace("\udcff", "?")


def suites(report: Report) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(junit.to_junit(report).encode())
    assert root.tag == "testsuites"
    return {suite.attrib["name"]: suite for suite in root}


def counts(suite: ElementTree.Element) -> list[int]:
    return [int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")]


def test_junit_counts() -> None:
    found = suites(sample_reports.full_report())
    assert {name: counts(suite) for name, suite in found.items()} == {
        "pytorch (faulty)": [2, 2, 0, 0],
        "flax": [2, 0, 0, 0],
        "onnx": [1, 0, 0, 0],
        "crash": [2, 0, 1, 0],
        "tensorflow": [1, 0, 0, 1],
    }
    for suite in found.values():
        elements = [
            len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error", "skipped")
        ]
        assert elements == counts(suite)[1:]
        assert len(suite.findall("testcase")) == counts(suite)[0]
    assert found["flax"].attrib["timestamp"] == "2026-01-02T03:04:05"
    assert found["flax"].attrib["time"] == "0.012000"


def test_junit_has_the_reason() -> None:
    found = suites(sample_reports.full_report())
    failure = found["pytorch (faulty)"].find("testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == "logits: rms error 4.3"
    assert "label: A -> B" in str(failure.text)
    assert "first beyond noise in the case single: bert.encoder.layer.1.attention" in str(
        failure.text
    )
    error = found["crash"].find("testcase/error")
    assert error is not None
    assert error.attrib["message"] == "the worker crashed during 'run' (signal 11)"
    assert "Traceback" in str(error.text)
    skipped = found["tensorflow"].find("testcase/skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "it has no environment"
    out = found["flax"].find("testcase/system-out")
    assert out is not None
    assert (
        "logits: within noise, rms 1e-07, noise floor 1e-07, ratio 1.00, max abs 2e-07, noise 2e-07, ulp 3"
        in str(out.text)
    )


def test_junit_of_hostile_texts() -> None:
    """Characters that XML cannot contain are removed; everything else is text."""
    (first, second) = ElementTree.fromstring(
        junit.to_junit(sample_reports.hostile_report()).encode("utf-8")
    )
    assert "<script>" in first.attrib["name"]
    assert counts(first) == [2, 1, 1, 0]
    assert counts(second) == [1, 0, 0, 1]


def test_rows() -> None:
    found = {one.backend: one for one in summary_rows(sample_reports.full_report())}
    assert next(iter(found)) == "pytorch (reference)"
    bad = found["pytorch (faulty)"]
    assert (bad.verdict, bad.worst_at) == ("diverged", "single logits")
    assert (bad.error, bad.floor, bad.ratio, bad.decisions) == (
        "4.3",
        "1e-07",
        "43000000.00",
        "3/4",
    )
    assert (bad.seconds, bad.memory, bad.remark) == ("0.01", "758 MB", "rms error 4.3")
    missing = found["tensorflow"]
    assert (missing.verdict, missing.remark, missing.worst_at) == (
        "not run",
        "it has no environment",
        "",
    )
    assert found["crash"].remark == "batch: the worker crashed during 'run' (signal 11)"
    empty = summary_row(sample_reports.backend(cases=(), failure="load failed\nwith a trace"))
    assert (empty.verdict, empty.remark, empty.seconds) == ("failed", "load failed", "")


def test_remarks() -> None:
    found = remarks(
        sample_reports.report(sample_reports.diverged_backend(), sample_reports.absent_backend())
    )
    assert found[:3] == [
        "pytorch (faulty): rms error 4.3",
        "pytorch (faulty): single: label: A -> B",
        "pytorch (faulty): it does not take token_type_ids",
    ]
    assert found[3].endswith(
        "its inputs are within noise: bert.encoder.layer.0 (1.1e-07); repro in repro/faulty"
    )
    assert found[4] == "tensorflow: it has no environment"
    assert describe_divergence(sample_reports.backend()) == ""


def test_overall_verdict_and_exit_code() -> None:
    assert sample_reports.full_report().verdict is Verdict.FAILED
    assert exit_code(sample_reports.full_report(), strict=False) == 1
    assert (
        sample_reports.report().verdict
        is sample_reports.report(sample_reports.absent_backend()).verdict
        is Verdict.NOTHING_COMPARED
    )
    assert exit_code(sample_reports.report(sample_reports.absent_backend()), strict=False) == 3
    assert exit_code(sample_reports.report(), strict=True) == 3
    quantized = replace(sample_reports.safe_backend(), quantized="int8-dynamic")
    assert exit_code(sample_reports.report(quantized), strict=True) == 0
    diverged = replace(sample_reports.diverged_backend(), quantized="int8-dynamic")
    assert exit_code(sample_reports.report(diverged), strict=False) == 1
    assert exit_code(sample_reports.report(sample_reports.failed_backend()), strict=False) == 3
    assert exit_code(sample_reports.report(sample_reports.safe_backend()), strict=False) == 0
    assert exit_code(sample_reports.report(sample_reports.safe_backend()), strict=True) == 1


def test_to_json_value() -> None:
    assert to_json_value((Verdict.DIVERGED, {1: sample_reports.NOISE}))[0] == "diverged"
    assert to_json_value({1: sample_reports.ModuleError("a", 1.0, 0.5, 2.0, True)}) == {
        "1": {"path": "a", "error": 1.0, "noise": 0.5, "ratio": 2.0, "beyond": True}
    }


def test_the_ratio_can_be_computed_again() -> None:
    """Error over noise floor, as they are printed, is the ratio."""
    for row in summary_rows(sample_reports.full_report()):
        if row.ratio:
            assert float(row.error) / float(row.floor) == pytest.approx(float(row.ratio), rel=0.01)


def test_computed_precision_is_in_every_report() -> None:
    report = sample_reports.report(sample_reports.rounded_backend())
    finding = "declared float32, computed as TensorFloat-32"
    (remark,) = (text for text in remarks(report) if "computed as" in text)
    assert remark.startswith(f"onnx (rounded): {finding}: its error is 1.1 times PyTorch's in")
    assert f"h.0: {finding}" in look_at(report)
    assert finding in to_text(report)
    (suite,) = ElementTree.fromstring(junit.to_junit(report).encode("utf-8"))
    assert finding in str(suite.findtext("testcase/system-out"))
    values = json.loads(to_json(report))["backends"][0]
    assert values["computed"] == {
        "declared": "float32",
        "computed": "TensorFloat-32",
        "size": 1.07,
        "cosine": 0.98,
    }
    assert values["divergence"]["after"] == "h.0.ln"


@pytest.mark.parametrize(
    ("module", "after", "before", "text"),
    [
        ("h.0.mlp.act", "", "", "h.0.mlp.act (GELU)"),
        (
            "h.0",
            "h.0.ln_1",
            "h.0.attn",
            "h.0 (GELU), between h.0.ln_1, the last within noise, and h.0.attn, the first beyond",
        ),
        (
            "h.0.attn",
            "h.0.ln_1",
            "h.0.attn",
            "h.0.attn (GELU), or between it and h.0.ln_1, the last within noise",
        ),
        (
            "(the whole model)",
            "lm_head",
            "",
            "(the whole model) (GELU), after lm_head, the last within noise",
        ),
    ],
)
def test_a_place_is_described(module: str, after: str, before: str, text: str) -> None:
    place = Divergence("single", module, "GELU", module, 1.0, 0.1, after=after, before=before)
    assert describe_place(place) == text


def test_ranges_and_steps_are_described() -> None:
    report = sample_reports.report(sample_reports.rounded_backend())
    (text,) = (one for one in remarks(report) if "first beyond" in one)
    assert (
        "in the case single, step 2: h.0 (Block), between h.0.ln, the last within noise, and"
        in text
    )
    assert "its inputs are within noise" not in text


def test_the_table_fits_80_columns() -> None:
    report = sample_reports.full_report()
    lines = table_lines(summary_rows(report))
    assert max(len(line) for line, _ in lines) <= 80
    assert all(verdict in line for line, verdict in lines)
    row = summary_rows(report)[1]
    detail = f"  {row.worst_at}: rms error {row.error}, noise floor {row.floor}"
    assert (detail, "") in lines
    assert detail in to_text(report)


@pytest.mark.parametrize("made", ["full_report", "hostile_report"])
def test_a_report_is_read_back(made: str) -> None:
    """Nothing of it is lost: it is equal, and its texts are."""
    report = getattr(sample_reports, made)()
    found = from_json(to_json(report))
    assert to_text(found) == to_text(report).encode("utf-8", "replace").decode()
    assert to_json(found) == to_json(report)


def test_a_report_that_is_read_back_is_equal() -> None:
    case = sample_reports.case("single", sample_reports.output())
    divergence = Divergence("single", "h.0", "Block", "", float("inf"), 0.5, {"wte": 1e-7})
    backend = replace(sample_reports.backend(), cases=(case,), divergence=divergence)
    report = sample_reports.report(backend, sample_reports.absent_backend())
    assert from_json(to_json(report)).backends == report.backends


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a report"),
        ("[]", "not a report"),
        ('{"generator": "equipoise", "schema": 99}', "another schema"),
    ],
)
def test_what_is_no_report(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_json(text)
