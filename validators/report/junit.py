"""The report as JUnit XML: a suite a backend, a test a case."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from equipoise.validators.judgement.results import BackendResult, Report
from equipoise.validators.judgement.verdict import CaseFigures, Verdict
from equipoise.validators.report.summary import divergence, figure, first_line


def document(report: Report) -> str:
    """The XML; ``failure`` is a divergence, ``error`` a backend that did not run, ``skipped`` one that is not here."""
    root = Element("testsuites", name=_plain(f"equipoise {report.task} {report.class_name}"))
    for result in report.backends:
        _suite(root, report, result)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, report: Report, result: BackendResult) -> None:
    cases = result.cases or (CaseFigures("load", failure=result.failure),)
    count = {
        "tests": len(cases),
        "failures": sum(case.verdict is Verdict.DIVERGED for case in cases),
        "errors": 0 if result.absent else sum(case.verdict is Verdict.FAILED for case in cases),
        "skipped": len(cases) if result.absent else 0,
    }
    about = {
        "name": _plain(result.label),
        "timestamp": _plain(report.date.removesuffix("+00:00")),
        "time": f"{result.seconds:.6f}",
    }
    suite = SubElement(
        root, "testsuite", {**about, **{name: str(value) for name, value in count.items()}}
    )
    for case in cases:
        _case(suite, report, result, case)


def _case(suite: Element, report: Report, result: BackendResult, case: CaseFigures) -> None:
    test = SubElement(
        suite,
        "testcase",
        classname=_plain(f"{report.task}.{result.label}"),
        name=_plain(case.case),
        time=f"{sum(case.seconds):.6f}",
    )
    if result.absent:
        SubElement(test, "skipped", message=_plain(result.absent))
        return
    if case.verdict is Verdict.FAILED:
        text = case.failure or "\n".join(_reasons(case, Verdict.FAILED)) or "no output was compared"
        SubElement(test, "error", message=_plain(first_line(text))).text = _plain(text)
    elif case.verdict is Verdict.DIVERGED:
        text = _diverged(result, case)
        SubElement(test, "failure", message=_plain(first_line(text))).text = _plain(text)
    SubElement(test, "system-out").text = _plain(_figures(case))


def _reasons(case: CaseFigures, verdict: Verdict) -> list[str]:
    """Why outputs have this verdict."""
    return [f"{out.name}: {out.reason}" for out in case.outputs if out.verdict is verdict]


def _diverged(result: BackendResult, case: CaseFigures) -> str:
    lines = [*_reasons(case, Verdict.DIVERGED), *case.flips]
    if result.divergence is not None and result.divergence.case == case.case:
        lines.append(divergence(result))
    return "\n".join(lines) or "diverged"


def _figures(case: CaseFigures) -> str:
    lines = [f"verdict: {case.verdict.value}"]
    for out in case.outputs:
        if out.error is None or out.noise is None:
            continue
        lines.append(
            f"{out.name}: {out.verdict.value}, max abs {figure(out.error.max_abs)}, "
            f"noise {figure(out.noise.max_abs)}, ulp {figure(out.error.ulp)}, "
            f"cosine {out.error.cosine:.9f}"
        )
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without characters that XML cannot hold."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in whole if c in "\t\n\r" or (ord(c) >= 32 and c not in "\ufffe\uffff"))
