"""``docs/command-line.md`` has the help texts of all commands."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from equipoise.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "command-line.md"
CONTEXT = click.Context(main.root)


def table(command: click.Command) -> str:
    """Returns the table of a command's options for the page."""
    rows = ["| option | |", "| --- | --- |"]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            value = "" if parameter.is_flag else f" {_value(parameter)}"
            rows.append(f"| `{parameter.opts[0]}{value}` | {parameter.help} |")
    return "\n".join(rows)


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "\\|".join(option.type.choices)
    name = option.type.name.upper().removesuffix(" RANGE").replace("|", "\\|")
    return "FILE" if isinstance(option.type, click.Path) else name


@pytest.mark.parametrize("name", main.root.list_commands(CONTEXT))
def test_the_page_has_every_option(name: str) -> None:
    command = main.root.get_command(CONTEXT, name)
    assert command is not None
    arguments = " ".join(p.opts[0].upper() for p in command.params if isinstance(p, click.Argument))
    text = DOCS.read_text(encoding="utf-8")
    _, heading, section = text.partition(f"\n## equipoise {name} {arguments}".rstrip() + "\n")
    assert heading
    if isinstance(command, click.Group):
        page = (DOCS.parent / f"{name}.md").read_text(encoding="utf-8")
        parts = {
            part: command.get_command(CONTEXT, part) for part in command.list_commands(CONTEXT)
        }
        assert [part for part, one in parts.items() if one and table(one) not in page] == []
        return
    assert table(command) in section.partition("\n## ")[0]


def test_the_page_has_no_other_command() -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    named = [line.split()[2] for line in lines if line.startswith("## equipoise ")]
    assert named == main.root.list_commands(CONTEXT)
