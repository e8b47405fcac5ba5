"""The report as JUnit XML: a test suite per backend, a test per case."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from equipoise.convert.files.ownership import FILE_MARK
from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.judgement.results import BackendResult, CaseMetrics, Report, Verdict
from equipoise.validators.report.summary import (
    describe_divergence,
    first_line,
    format_number,
    format_ratio,
    precision_remarks,
)


def to_junit(report: Report) -> str:
    """Returns the XML; ``failure`` is a divergence, ``error`` a backend that failed, ``skipped`` one that was not run."""
    root = Element("testsuites", name=_printable(f"equipoise {report.task} {report.class_name}"))
    for result in report.backends:
        _add_suite(root, report, result)
    indent(root)
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<!-- {FILE_MARK} -->\n'
    return head + tostring(root, encoding="unicode") + "\n"


def _add_suite(root: Element, report: Report, result: BackendResult) -> None:
    cases = result.cases or (CaseMetrics("load", failure=result.failure),)
    audits = [] if result.audit is None else [result.audit]
    failed_audits = sum(bool(one.findings) for one in audits)
    counts = {
        "tests": len(cases) + len(audits),
        "failures": sum(case.verdict is Verdict.DIVERGED for case in cases) + failed_audits,
        "errors": 0 if result.absent else sum(case.verdict is Verdict.FAILED for case in cases),
        "skipped": len(cases) if result.absent else 0,
    }
    attributes = {
        "name": _printable(result.label),
        "timestamp": _printable(report.date.removesuffix("+00:00")),
        "time": f"{result.seconds:.6f}",
    }
    suite = SubElement(
        root, "testsuite", {**attributes, **{name: str(value) for name, value in counts.items()}}
    )
    for case in cases:
        _add_case(suite, report, result, case)
    for audit in audits:
        _add_audit(suite, f"{report.task}.{result.label}", audit)


def _add_audit(suite: Element, class_name: str, audit: AuditReport) -> None:
    """Adds the audit of the weights as a test."""
    time = f"{audit.seconds:.6f}"
    test = SubElement(
        suite, "testcase", classname=_printable(class_name), name="weights", time=time
    )
    if audit.findings:
        text = "\n".join(audit.findings)
        message = _printable(audit.findings[0])
        SubElement(test, "failure", message=message).text = _printable(text)
    SubElement(test, "system-out").text = _printable(audit.summary)


def _add_case(suite: Element, report: Report, result: BackendResult, case: CaseMetrics) -> None:
    test = SubElement(
        suite,
        "testcase",
        classname=_printable(f"{report.task}.{result.label}"),
        name=_printable(case.case),
        time=f"{sum(case.seconds):.6f}",
    )
    if result.absent:
        SubElement(test, "skipped", message=_printable(result.absent))
        return
    if case.verdict is Verdict.FAILED:
        text = case.failure or "\n".join(_reasons(case, Verdict.FAILED)) or "no output was compared"
        SubElement(test, "error", message=_printable(first_line(text))).text = _printable(text)
    elif case.verdict is Verdict.DIVERGED:
        text = _divergence_text(result, case)
        SubElement(test, "failure", message=_printable(first_line(text))).text = _printable(text)
    metrics = "\n".join([_metrics_text(case), *precision_remarks(result)])
    SubElement(test, "system-out").text = _printable(metrics)


def _reasons(case: CaseMetrics, verdict: Verdict) -> list[str]:
    """Returns the reasons of outputs with this verdict."""
    return [f"{out.name}: {out.reason}" for out in case.outputs if out.verdict is verdict]


def _divergence_text(result: BackendResult, case: CaseMetrics) -> str:
    lines = [*_reasons(case, Verdict.DIVERGED), *case.flips, *precision_remarks(result)]
    if result.divergence is not None and result.divergence.case == case.case:
        lines.append(describe_divergence(result))
    return "\n".join(lines) or "diverged"


def _metrics_text(case: CaseMetrics) -> str:
    lines = [f"verdict: {case.verdict.value}"]
    for out in case.outputs:
        if out.error is None or out.noise is None:
            continue
        lines.append(
            f"{out.name}: {out.verdict.value}, rms {format_number(out.error.rms)}, noise floor "
            f"{format_number(out.floor)}, ratio {format_ratio(out.ratio)}, max abs "
            f"{format_number(out.error.max_abs)}, noise {format_number(out.noise.max_abs)}, ulp {format_number(out.error.ulp)}, "
            f"cosine {out.error.cosine:.9f}"
        )
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Removes characters that XML does not allow."""
    valid = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in valid if c in "\t\n\r" or (ord(c) >= 32 and c not in "\ufffe\uffff"))
