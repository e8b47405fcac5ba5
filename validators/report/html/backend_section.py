"""The section of one backend in the HTML report."""

from __future__ import annotations

from collections.abc import Iterator

from equipoise.validators.audit.content.report import AuditReport
from equipoise.validators.judgement.results import BackendResult, Divergence, Report
from equipoise.validators.report.html import tables
from equipoise.validators.report.html.error_by_depth import error_by_depth_chart
from equipoise.validators.report.html.histogram import histogram_chart
from equipoise.validators.report.html.markup import Html, code, definitions, join, tag
from equipoise.validators.report.html.samples import answers_section
from equipoise.validators.report.html.statistics import (
    case_outputs,
    error_histogram,
    format_number,
)
from equipoise.validators.report.summary import first_line, precision_remarks


def backend_section(report: Report, result: BackendResult, anchor: str) -> Html:
    """Returns the section of a backend, or of the reference."""
    parts: Iterator[Html | None] = iter(())
    if not result.absent:
        parts = _section_parts(report, result)
    heading = tag("h2", result.label, " ", tables.badge(tables.verdict_of(result, report)))
    return tag("section", heading, _origin_line(result), *parts, id=anchor)


def _section_parts(report: Report, result: BackendResult) -> Iterator[Html | None]:
    yield _failure_callout(result)
    yield _precision_callout(result)
    yield _divergence_callout(result.divergence)
    yield _audit_callout(result.audit)
    yield _reason_list(result)
    if result.cases:
        yield tables.case_table(result)
    yield _charts(report, result)
    if result is not report.reference:
        yield answers_section(
            report.samples, report.reference.answers, result.answers, result.label
        )
    if result.audit is not None and not result.audit.failure:
        sections = tag("details", tag("summary", result.audit.summary), _weight_lists(result.audit))
        yield sections
    if result.depth:
        yield tag("details", tag("summary", "Errors of all modules"), tables.module_table(result))
    if result.notes:
        notes = tag("ul", [tag("li", note) for note in result.notes])
        yield tag("details", tag("summary", f"Notes ({len(result.notes)})"), notes, open="")


def _origin_line(result: BackendResult) -> Html:
    if result.absent:
        return tag("p", f"Not run: {result.absent}.")
    about = result.about
    facts = [
        f"{about[name]}" for name in ("implementation", "precision", "hardware") if about.get(name)
    ]
    if "threads" in about:
        facts.append(f"threads: {about['threads']}")
    origin = f", {result.origin}" if result.origin else ""
    loaded = join("Loaded ", code(result.source), origin, ". ") if result.source else None
    return tag("p", loaded, f"Ran as {', '.join(facts)}." if facts else None, class_="soft")


def _failure_callout(result: BackendResult) -> Html | None:
    if not result.failure:
        return None
    line = first_line(result.failure)
    details = tag(
        "details", tag("summary", "Full message"), tag("pre", result.failure, tabindex="0")
    )
    return tag(
        "div",
        tag("p", tag("b", "It failed: "), line),
        details if result.failure.strip() != line else None,
        class_="callout failed",
    )


def _precision_callout(result: BackendResult) -> Html | None:
    """Shows the precision that the backend computes in, if it is not the one that it declares."""
    remarks = precision_remarks(result)
    if not remarks:
        return None
    lines = [tag("p", remark) for remark in remarks]
    return tag("div", tag("h3", "Precision"), lines, class_="callout diverged")


def _audit_callout(audit: AuditReport | None) -> Html | None:
    """Shows the weights that are not those of the source."""
    if audit is None or not (audit.findings or audit.failure):
        return None
    lines = audit.findings or (audit.summary,)
    listed = tag("ul", [tag("li", line) for line in lines])
    return tag(
        "div",
        tag("h3", "Weights"),
        listed,
        class_="callout diverged" if audit.findings else "callout",
    )


def _weight_lists(audit: AuditReport) -> Html:
    """Lists the weights that are made of the source's, those that are like none, and those that are missing."""
    explained = [
        f"{one.name}: {one.how}{f' ({names})' if (names := ', '.join(one.sources)) else ''}"
        for one in audit.explained
    ]
    lists = (
        ("Explained", explained),
        ("Like no tensor of the source", [str(one) for one in audit.unknown]),
        ("In the source alone", list(audit.missing)),
        ("Not finite", [str(one) for one in audit.non_finite]),
    )
    return join(
        *(
            join(tag("h3", title), tag("ul", [tag("li", line) for line in lines]))
            for title, lines in lists
            if lines
        )
    )


def _reason_list(result: BackendResult) -> Html | None:
    """Lists why outputs have no better verdict, and which decisions changed."""
    lines = [
        tag("li", tag("b", f"{case.case}, {output.name}"), f": {output.reason}")
        for case, output in case_outputs(result)
        if output.reason
    ]
    lines += [
        tag("li", tag("b", case.case), ", changed decision: ", tag("mark", flip))
        for case in result.cases
        for flip in case.flips
    ]
    return join(tag("h3", "Reasons"), tag("ul", lines)) if lines else None


def _divergence_callout(first: Divergence | None) -> Html | None:
    if first is None:
        return None
    facts: list[tuple[str, object]] = [
        ("module", code(first.module or "(the whole model)")),
        ("class", code(first.kind)),
        ("case", first.case if not first.step else f"{first.case}, step {first.step}"),
        ("relative error", format_number(first.error)),
        ("noise there", format_number(first.noise)),
    ]
    if first.there and first.there != first.module:
        facts.append(("name in the backend", code(first.there)))
    if first.after:
        facts.append(("last within noise", code(first.after)))
    if first.before:
        facts.append(("first beyond noise", code(first.before)))
    if first.inputs:
        facts.append(("errors of its inputs", _input_errors(first)))
    if first.note:
        facts.append(("note", first.note))
    if first.repro:
        facts.append(("reproduced by", code(f"{first.repro}/repro.py")))
    listed = definitions(facts, wide=("module", "errors of its inputs", "note", "reproduced by"))
    return tag("div", tag("h3", "First divergence"), listed, class_="callout diverged")


def _input_errors(first: Divergence) -> Html:
    lines = [
        tag("li", code(path), f" {format_number(error)}")
        for path, error in list(first.inputs.items())[:8]
    ]
    return tag("ul", lines, class_="plain")


def _charts(report: Report, result: BackendResult) -> Html | None:
    is_reference = result is report.reference
    noise = error_histogram(report.reference, like=result)
    errors = [0] * len(noise) if is_reference else error_histogram(result)
    figures = [
        _chart_figure(
            "Distribution of errors",
            "Values of all outputs and cases by absolute error; both axes are logarithmic.",
            histogram_chart(result.label, errors, noise),
            is_reference,
        ),
        _chart_figure(
            "Error along the depth of the model",
            "Relative error of each module's output, on a logarithmic axis.",
            error_by_depth_chart(
                result.label,
                result.depth,
                _first_beyond(result.divergence),
            ),
            is_reference,
        ),
    ]
    present = [one for one in figures if one is not None]
    return (
        tag("div", present, class_="charts" if len(present) > 1 else "charts one")
        if present
        else None
    )


def _first_beyond(divergence: Divergence | None) -> str | None:
    """Returns the first module beyond noise: where the place is a range, the one that ends it."""
    return None if divergence is None else divergence.before or divergence.module


def _chart_figure(
    title: str, description: str, chart: Html | None, is_reference: bool
) -> Html | None:
    if chart is None:
        return None
    keys = tag(
        "span",
        None if is_reference else (tag("i", class_="key error"), "this backend "),
        tag("i", class_="key noise"),
        "noise of the reference",
        class_="keys",
    )
    caption = tag("figcaption", tag("b", title), tag("span", description, class_="soft"), keys)
    return tag("figure", caption, tag("div", chart, class_="box", tabindex="0"))
