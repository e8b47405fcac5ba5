"""What README and the docs promise stays: commands, options, exit codes, names to import, fields of every JSON document.

``public_surface.json`` holds the promise. What is added goes there too; what is taken out or renamed breaks users.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest

from equipoise.cli import _run
from equipoise.cli.main import root
from equipoise.validators.report.json_report import SCHEMA_VERSION

ROOT = Path(__file__).parents[1]
SURFACE = json.loads(Path(__file__).with_name("public_surface.json").read_text())
CHECKPOINT = ROOT / "fixtures" / "checkpoints" / "sentiment"
MODEL = ROOT / "fixtures" / "tasks" / "text-classification"

MAPS = frozenset(
    [
        "about",
        "cases",
        "companions",
        "dtypes",
        "files",
        "graphs",
        "inputs",
        "metadata",
        "outputs",
        "settings",
        "sha256",
        "sources",
        "tensors",
        "versions",
    ]
)
"""Fields whose keys are names of tensors, files, cases or packages."""


def fields(value: Any, path: str = "") -> Iterator[str]:
    """Returns the paths of all fields of a JSON document; ``[]`` stands for an element, ``*`` for any key of a map.

    >>> sorted(set(fields({"a": [{"b": 1}], "files": {"x": {"bytes": 2}}})))
    ['a', 'a[].b', 'files', 'files.*.bytes']
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{path}.{name}".lstrip(".")
            yield here
            if name in MAPS and isinstance(inner, dict):
                for one in inner.values():
                    yield from fields(one, f"{here}.*")
            else:
                yield from fields(inner, here)
    elif isinstance(value, list):
        for one in value:
            yield from fields(one, f"{path}[]")


def options(command: click.Command) -> list[str]:
    return sorted(
        "/".join([*one.opts, *one.secondary_opts])
        if isinstance(one, click.Option)
        else str(one.name).upper()
        for one in command.params
    )


def test_commands_and_options() -> None:
    assert {name: options(command) for name, command in commands().items()} == SURFACE["commands"]


def commands() -> dict[str, click.Command]:
    context = click.Context(root)
    found = {name: root.get_command(context, name) for name in root.list_commands(context)}
    for name, command in list(found.items()):
        if isinstance(command, click.Group):
            parts = command.list_commands(context)
            found |= {f"{name} {part}": command.get_command(context, part) for part in parts}
    return {name: command for name, command in found.items() if command is not None}


def test_exit_codes() -> None:
    assert SURFACE["exit_codes"] == {
        "ok": _run.EXIT_OK,
        "difference": _run.EXIT_DIFFERENCE,
        "bad input": _run.EXIT_BAD_INPUT,
        "backend failed": _run.EXIT_BACKEND_FAILED,
        "interrupted": _run.EXIT_INTERRUPTED,
    }


@pytest.mark.parametrize("module", SURFACE["names"])
def test_names_to_import(module: str) -> None:
    loaded = import_module(module)
    assert [name for name in SURFACE["names"][module] if not hasattr(loaded, name)] == []


def test_entry_points() -> None:
    from equipoise.convert.containers import CONTAINERS
    from equipoise.convert.layouts import LAYOUTS
    from equipoise.exporters.target import TARGETS
    from equipoise.fleet.executors import EXECUTORS
    from equipoise.validators.tasks.base import TASKS

    groups = {one.group for one in (CONTAINERS, EXECUTORS, LAYOUTS, TARGETS, TASKS) if one.group}
    assert groups == set(SURFACE["entry_point_groups"])
    (plugin,) = entry_points(group="pytest11", name="equipoise")
    assert plugin.value == "equipoise.validators.pytest_plugin"


def test_fields_of_converting(cli: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "pytorch"
    found = {
        "convert": cli("convert", CHECKPOINT, output, "--to", "pytorch", "--json").data,
        "inspect": cli("inspect", CHECKPOINT, "--json").data,
        "diff": cli("diff", CHECKPOINT, output, "--json").data,
        "verify": cli("verify", output, "--json").data,
        "routes": cli("routes", "--json").data,
        "manifest": json.loads((output / "equipoise.json").read_text()),
        "error": cli("inspect", tmp_path / "missing", "--json").data,
    }
    assert_fields(found)


@pytest.mark.slow
@pytest.mark.transformers
def test_fields_of_validating(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "program"
    found = {
        "export": cli("export", MODEL, output, "--to", "torchscript", "--json").data,
        "validate": cli("validate", MODEL, output, "--backends", "torchscript", "--json", "-").data,
        "bisect": cli("bisect", MODEL, output, "--backends", "torchscript", "--json").data,
    }
    assert_fields(found)
    assert found["validate"]["schema"] == SCHEMA_VERSION == SURFACE["report_schema"]
    assert found["export"]["version"] == SURFACE["artifact_version"]


def assert_fields(documents: dict[str, Any]) -> None:
    for name, document in documents.items():
        missing = set(SURFACE["fields"][name]) - set(fields(document))
        assert not missing, f"{name} lost {sorted(missing)}"
