"""``equipoise routes``: shows the graph of layouts and their formats."""

from __future__ import annotations

from typing import Any

import click

from equipoise.cli import _output, _run


@click.command()
@click.option("--from", "source", help="Only routes from this layout or format.")
@click.option("--to", "target", help="Only routes to this layout or format.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print the graph as a mermaid diagram.")
@_run.json_option
@_run.handle_errors
def command(source: str | None, target: str | None, as_mermaid: bool, as_json: bool) -> int:
    """Show which formats can be converted into which, and the route."""
    from equipoise.convert.conversion import routes

    if as_mermaid:
        text = routes.to_mermaid()
        _run.print_json({"mermaid": text}) if as_json else _output.echo(text)
        return _run.EXIT_OK
    data = _data(source, target)
    if as_json:
        _run.print_json(data)
        return _run.EXIT_OK
    formats = [
        (
            one["name"],
            one["layout"],
            one["container"],
            one["file"],
            "yes" if one["writes"] else "no",
        )
        for one in data["formats"]
    ]
    _output.print_table(("format", "layout", "container", "file", "can be written"), formats)
    _output.echo()
    rows = [(one["from"], one["to"], " -> ".join(one["route"])) for one in data["routes"]]
    _output.print_table(("from", "to", "route"), rows)
    return _run.EXIT_OK


def _data(source: str | None, target: str | None) -> dict[str, Any]:
    """Returns the formats, and the route of every selected pair of layouts."""
    from equipoise.convert.conversion import routes
    from equipoise.convert.layouts import layout_names

    known = routes.all_formats()
    first = _layouts(source, writing=False)
    second = _layouts(target, writing=True)
    shown = {*first, *second} if source or target else set(layout_names())
    return {
        "formats": [
            {
                "name": name,
                "layout": layout,
                "container": form.container,
                "file": form.filename,
                "writes": form.writable,
            }
            for name, (layout, form) in known.items()
            if layout in shown
        ],
        "routes": [
            {"from": one, "to": other, "route": list(routes.find_route(one, other))}
            for one in first
            for other in second
        ],
    }


def _layouts(name: str | None, *, writing: bool) -> tuple[str, ...]:
    """Returns the layouts of a layout's or format's name; all without a name."""
    from equipoise.convert.conversion import routes
    from equipoise.convert.layouts import layout_names

    if name is None:
        return layout_names()
    known = routes.all_formats()
    if name in known and not writing:
        return (known[name][0],)
    return (routes.find_format(name)[0],)
