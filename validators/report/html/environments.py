"""Tables of versions and hardware in the HTML report."""

from __future__ import annotations

from equipoise.validators.judgement.results import Report
from equipoise.validators.report.html.markup import Html, table

_HIDDEN_FACTS = ("accepts", "caches")


def environments_table(report: Report) -> Html | None:
    """Returns the versions and hardware of all backends, one column per backend."""
    results = [one for one in (*report.backends, report.reference) if one.about or one.versions]
    if not results:
        return None
    rows: list[list[object]] = []
    for part in ("about", "versions"):
        names = dict.fromkeys(key for one in results for key in getattr(one, part))
        for name in names:
            values = [getattr(one, part).get(name, "—") for one in results]
            if name not in _HIDDEN_FACTS:
                rows.append([name, *map(_format_value, values)])
    head: list[object] = ["", *(result.label for result in results)]
    return table("Runtime of every backend", head, rows, css="figures")


def host_list(report: Report) -> Html:
    """Returns the machine that ran the comparison."""
    facts = dict(report.machine)
    versions = facts.pop("versions", {})
    values = {**facts, **(versions if isinstance(versions, dict) else {})}
    rows: list[list[object]] = [[name, _format_value(value)] for name, value in values.items()]
    return table("Machine that ran the comparison", ["", "here"], rows)


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
