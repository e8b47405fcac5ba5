"""The rows that every report shows: one per backend, with its worst result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from equipoise.validators.judgement.results import (
    PASSING_VERDICTS,
    BackendResult,
    CaseMetrics,
    Divergence,
    OutputMetrics,
    Report,
)

_MAX_FINDINGS = 5
"""Weights that are named below the table; the JSON report names all."""


@dataclass(frozen=True)
class SummaryRow:
    """The results of one backend as texts.

    Attributes:
        backend: Its name in reports.
        verdict: Its verdict, or ``not run``.
        worst_at: Case and output with the worst verdict; among equal verdicts, with the largest ratio.
        error: Rms error of that output.
        floor: Rms noise that it is compared with.
        ratio: The error over the noise floor.
        decisions: Number of decisions that are equal, and number of all.
        seconds: Duration of all passes.
        memory: Peak memory.
        remark: Why the verdict is not better, or why the backend was not run.
    """

    backend: str
    verdict: str
    worst_at: str = ""
    error: str = ""
    floor: str = ""
    ratio: str = ""
    decisions: str = ""
    seconds: str = ""
    memory: str = ""
    remark: str = ""


COLUMNS = ("backend", "verdict", "ratio", "decisions", "seconds", "memory")
"""Heads of the table. Where the worst output is, its error and its noise floor stand below each row, so that it fits into
80 columns."""


def summary_row(result: BackendResult) -> SummaryRow:
    """Returns the row of a backend."""
    if result.absent:
        return SummaryRow(result.label, "not run", remark=result.absent)
    worst = worst_output(result)
    total = sum(case.decisions[0] for case in result.cases)
    equal = sum(case.decisions[1] for case in result.cases)
    shared = {
        "decisions": f"{equal}/{total}" if total else "",
        "seconds": f"{result.seconds:.2f}" if result.cases else "",
        "memory": f"{result.peak_bytes / 1e6:.0f} MB" if result.peak_bytes else "",
    }
    if worst is None:
        return SummaryRow(
            result.label, result.verdict.value, remark=first_line(result.failure), **shared
        )
    case, output = worst
    return SummaryRow(
        backend=result.label,
        verdict=result.verdict.value,
        worst_at=f"{case.case} {output.name}",
        error=format_number(output.error.rms if output.error else None),
        floor=format_number(output.floor),
        ratio=format_ratio(output.ratio),
        remark=first_line(result.failure) or output.reason,
        **shared,
    )


def summary_rows(report: Report) -> list[SummaryRow]:
    """Returns the row of the reference, which has no verdict, and those of all backends, the worst first."""
    reference = replace(summary_row(report.reference), verdict="reference")
    return [reference, *(summary_row(result) for _, result in report.worst_first)]


def look_at(report: Report) -> str:
    """Returns the one line that says what to look at first; empty if every backend that was run passes."""
    worst = next((result for _, result in report.worst_first if not result.absent), None)
    if worst is None or worst.verdict in PASSING_VERDICTS:
        return ""
    row = summary_row(worst)
    where = worst.divergence.module if worst.divergence is not None else row.worst_at
    flips = [flip for case in worst.cases for flip in case.flips]
    what = next(iter((*worst.companions, *precision_remarks(worst), *flips)), row.remark)
    return ": ".join(part for part in (f"look at {worst.label}", where, what) if part)


def row_cells(row: SummaryRow) -> list[str]:
    """Returns the texts of a row in the order of :data:`COLUMNS`."""
    return [row.backend, row.verdict, row.ratio, row.decisions, row.seconds, row.memory]


def row_detail(row: SummaryRow) -> str:
    """Returns what stands below a row; empty if no output was compared."""
    if not row.worst_at:
        return ""
    return f"{row.worst_at}: rms error {row.error}, noise floor {row.floor}"


def table_lines(rows: Sequence[SummaryRow]) -> list[tuple[str, str]]:
    """Returns the lines of the table, the head first, each with the verdict that stands in it; empty if none does."""
    cells = [list(COLUMNS), *map(row_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]

    def join(texts: Sequence[str]) -> str:
        padded = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
        return "  ".join(padded).rstrip()

    lines = [(join(COLUMNS), "")]
    for row in rows:
        lines.append((join(row_cells(row)), row.verdict))
        lines += [(f"  {detail}", "")] if (detail := row_detail(row)) else []
    return lines


def head_lines(report: Report) -> list[str]:
    """Returns what was validated: task and class, the model, precision and device."""
    setting = f"{report.precision} on {report.device}"
    return [f"{report.task}  {report.class_name}  {setting}", str(report.model)]


def to_text(report: Report) -> str:
    """Returns the table as plain text, with remarks below it."""
    table = [line for line, _ in table_lines(summary_rows(report))]
    notes = [f"- {remark}" for remark in remarks(report)]
    notes += [first] if (first := look_at(report)) else []
    return "\n".join([*head_lines(report), *table, *notes, f"verdict: {report.verdict.value}"])


def worst_output(result: BackendResult) -> tuple[CaseMetrics, OutputMetrics] | None:
    """Returns the output with the worst verdict; among equal verdicts, with the largest ratio."""
    pairs = [(case, output) for case in result.cases for output in case.outputs]
    return max(pairs, key=lambda pair: (pair[1].verdict.rank, pair[1].ratio or 0.0), default=None)


def format_number(value: float | None) -> str:
    """Formats a number with three digits; None is empty.

    >>> format_number(1.23456e-7), format_number(0.0), format_number(None)
    ('1.23e-07', '0', '')
    """
    return "" if value is None else f"{value:.3g}"


def format_ratio(value: float | None) -> str:
    """Formats a ratio with two decimals; None is empty."""
    return "" if value is None else f"{value:.2f}"


def first_line(text: str) -> str:
    """Returns the first line of an error, which may contain a traceback."""
    return text.strip().splitlines()[0] if text.strip() else ""


def remarks(report: Report) -> list[str]:
    """Returns remarks to print below the table: failures, reasons, notes, changed decisions, first divergences."""
    texts = []
    for result in (report.reference, *(result for _, result in report.worst_first)):
        row = summary_row(result)
        if row.remark:
            texts.append(f"{result.label}: {row.remark}")
        texts += [f"{result.label}: {remark}" for remark in audit_remarks(result)]
        for case in result.cases:
            texts += [f"{result.label}: {case.case}: {flip}" for flip in case.flips]
        others = (*result.companions, *precision_remarks(result), *result.notes)
        texts += [f"{result.label}: {one}" for one in others]
        if result.divergence is not None:
            texts.append(f"{result.label}: {describe_divergence(result)}")
    return texts


def audit_remarks(result: BackendResult) -> list[str]:
    """Returns what is to be said of a backend's weights: nothing if each of them is accounted for and none is missing."""
    audit = result.audit
    if audit is None:
        return []
    texts = list(audit.findings[:_MAX_FINDINGS])
    if len(audit.findings) > _MAX_FINDINGS:
        texts.append(f"{len(audit.findings) - _MAX_FINDINGS} more weights are not accounted for")
    texts += [str(one) for one in audit.non_finite if one.side == "source"]
    if audit.failure or audit.findings or audit.unknown or audit.missing:
        texts.append(audit.summary)
    return texts


def precision_remarks(result: BackendResult) -> tuple[str, ...]:
    """Returns what is to be said of the precision that a backend computes in, if it is not the one that it declares."""
    found = result.computed
    if found is None:
        return ()
    name = found.computed
    text = (
        f"declared {found.declared}, computed as {name}: its error is {found.size:.2g} times PyTorch's in {name}, and "
        f"where it begins the two have a cosine of {found.cosine:.2f}"
    )
    return (text,)


def describe_divergence(result: BackendResult) -> str:
    """Describes the first module whose error is beyond noise in a sentence."""
    first = result.divergence
    if first is None:
        return ""
    inputs = ", ".join(f"{path} ({error:.2g})" for path, error in list(first.inputs.items())[:3])
    text = (
        f"first beyond noise in {describe_case(first)}: {describe_place(first)}, "
        f"relative error {first.error:.3g} against noise {first.noise:.3g}"
    )
    text += f"; its inputs are within noise: {inputs}" if inputs else ""
    text += f"; {first.note}" if first.note else ""
    return text + (f"; repro in {first.repro}" if first.repro else "")


def describe_case(first: Divergence) -> str:
    """Names the case of a divergence, and the forward pass if the case is a loop."""
    return f"the case {first.case}{f', step {first.step}' if first.step else ''}"


def describe_place(first: Divergence) -> str:
    """Names the place of a divergence: a module, or the range between two modules.

    >>> describe_place(Divergence("single", "h.0", "Block", "h.0", 1.0, 0.1))
    'h.0 (Block)'
    >>> describe_place(Divergence("single", "h.0", "Block", "", 1.0, 0.1, after="h.0.ln", before="h.0.attn"))
    'h.0 (Block), between h.0.ln, the last within noise, and h.0.attn, the first beyond'
    """
    module = f"{first.module} ({first.kind})" if first.kind else first.module
    if first.after and first.before == first.module:
        return f"{module}, or between it and {first.after}, the last within noise"
    if first.after and first.before:
        return f"{module}, between {first.after}, the last within noise, and {first.before}, the first beyond"
    if first.after:
        return f"{module}, after {first.after}, the last within noise"
    if first.before and first.before != first.module:
        return f"{module}, before {first.before}, the first beyond noise"
    return module
