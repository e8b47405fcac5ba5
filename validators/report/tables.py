"""Tables of a report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from equipoise.validators.report.figures import (
    figure,
    latency,
    margin,
    outputs,
    passes,
    seconds,
    size,
)
from equipoise.validators.report.markup import Html, code, table, tag
from equipoise.validators.report.summary import first_line, worst_output
from equipoise.validators.result import BackendResult, Report
from equipoise.validators.tolerance import REASONS

SIGNS = {
    "identical": "=",
    "within noise": "≈",
    "decision-safe": "~",
    "diverged": "≠",
    "failed": "!",
    "not run": "—",
    "reference": "•",
}
"""A sign for each verdict, so that colour is not all that tells them apart."""


def verdict_of(result: BackendResult, report: Report) -> str:
    """The verdict in words; the reference, and a backend that is not there, have none."""
    if result is report.reference:
        return "reference"
    return "not run" if result.absent else result.verdict.value


def badge(verdict: str) -> Html:
    """A verdict with its sign and colour."""
    sign = tag("span", SIGNS[verdict], aria_hidden="true")
    return tag("span", sign, f" {verdict}", class_=f"badge {verdict.replace(' ', '-')}")


def verdicts(report: Report) -> Html:
    """One line a backend."""
    head: list[object] = [
        *("backend", "verdict", "worst at", "max abs", "noise", "ratio"),
        *("decisions kept", "margin", "latency", "memory"),
    ]
    results = (*report.backends, report.reference)
    rows = [
        _verdict_row(result, verdict_of(result, report), anchor(index))
        for index, result in enumerate(results)
    ]
    return table("Verdict on every backend", head, rows, css="figures verdicts")


def anchor(index: int) -> str:
    """The name of a backend's section; the reference is the last."""
    return f"backend-{index}"


def _verdict_row(result: BackendResult, verdict: str, name: str) -> list[object]:
    worst = worst_output(result)
    made = sum(case.decisions[0] for case in result.cases)
    kept = sum(case.decisions[1] for case in result.cases)
    case, output = worst if worst is not None else (None, None)
    return [
        tag("a", result.label, href=f"#{name}"),
        badge(verdict),
        f"{case.case}, {output.name}" if case and output else "—",
        figure(output.error.max_abs if output and output.error else None),
        figure(output.noise.max_abs if output and output.noise else None),
        figure(output.ratio if output else None),
        f"{kept} of {made}" if made else "—",
        figure(margin(result)),
        seconds(latency(result)),
        size(result.peak_bytes),
    ]


def cases(result: BackendResult) -> Html:
    """One line an output of a case, with all figures."""
    head: list[object] = [
        *("case", "output", "verdict", "max abs", "rms", "noise max", "noise rms", "ratio"),
        *("max rel", "ULP", "cosine", "KL", "margin"),
    ]
    rows: list[list[object]] = []
    for case, output in outputs(result):
        error, noise = output.error, output.noise
        figures: list[object] = (
            [
                figure(error.max_abs),
                figure(error.rms),
                figure(noise.max_abs if noise else None),
                figure(noise.rms if noise else None),
                figure(output.ratio),
                figure(error.max_rel),
                figure(error.ulp),
                figure(error.cosine, 9),
            ]
            if error
            else ["—"] * 8
        )
        last = [figure(output.kl), figure(output.margin)]
        rows.append([case.case, output.name, badge(output.verdict.value), *figures, *last])
    rows += [
        [case.case, "—", badge("failed"), first_line(case.failure), *["—"] * 9]
        for case in result.cases
        if case.failure
    ]
    caption = f"Figures of {result.label}, case by case"
    return table(caption, head, rows, css="figures")


def tolerances(report: Report) -> Html:
    """What was allowed, and why."""
    rows: list[list[object]] = [
        [code(name), figure(value), REASONS[name]]
        for name, value in asdict(report.tolerance).items()
    ]
    return table(f"Allowed at {report.precision}", ["name", "value", "reason"], rows, css="reasons")


_LEFT_OUT = ("accepts", "caches")


def environments(report: Report) -> Html | None:
    """Versions and hardware, a column a backend."""
    ran = [one for one in (*report.backends, report.reference) if one.about or one.versions]
    if not ran:
        return None
    rows: list[list[object]] = []
    for part in ("about", "versions"):
        names = dict.fromkeys(key for one in ran for key in getattr(one, part))
        for name in names:
            values = [getattr(one, part).get(name, "—") for one in ran]
            if name not in _LEFT_OUT:
                rows.append([name, *map(_worded, values)])
    head: list[object] = ["", *(result.label for result in ran)]
    return table("What every backend ran on", head, rows, css="figures")


def machine(report: Report) -> Html:
    """The machine that compared."""
    facts = dict(report.machine)
    versions = facts.pop("versions", {})
    listed = {**facts, **(versions if isinstance(versions, dict) else {})}
    rows: list[list[object]] = [[name, _worded(value)] for name, value in listed.items()]
    return table("The machine that compared", ["", "here"], rows)


def _worded(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def modules(result: BackendResult) -> Html:
    """The figures behind the line along the depth."""
    rows: list[list[object]] = [
        [code(point.path or "(the whole model)"), figure(point.error), figure(point.noise)]
        for point in result.depth
    ]
    caption = f"Relative error of {result.label} by module"
    return table(caption, ["module", "error", "noise"], rows, css="figures")


def bars(report: Report) -> list[Html]:
    """Latency and memory of all backends as bars."""
    ran = [one for one in (*report.backends, report.reference) if one.cases]
    speed = [
        (one.label, latency(one), f"{seconds(latency(one))}, {passes(one)} passes") for one in ran
    ]
    memory = [(one.label, float(one.peak_bytes), size(one.peak_bytes)) for one in ran]
    return [
        part
        for part in (
            _bars("Latency", "median of all passes", speed),
            _bars("Memory", "the most that a backend's process held", memory),
        )
        if part is not None
    ]


def _bars(title: str, about: str, values: Sequence[tuple[str, float | None, str]]) -> Html | None:
    known = [(label, value, text) for label, value, text in values if value]
    if not known:
        return None
    most = max(value for _, value, _ in known)
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            tag("td", tag("span", class_="bar", style=f"width:{max(value / most, 0.004):.1%}")),
            tag("td", text),
        )
        for label, value, text in known
    ]
    caption = tag("caption", title, tag("span", f" — {about}", class_="soft"))
    return tag("table", caption, tag("tbody", rows), class_="bars")
