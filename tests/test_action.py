"""The GitHub action: its scripts run here with an ``equipoise`` that only records its arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from equipoise.cli import main

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
CONTEXT = click.Context(main.root)

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the action needs bash")


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return values


def step(action: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in action["runs"]["steps"] if one.get("name") == name)
    return dict(found)


@dataclass
class StepResult:
    """Result of a step."""

    code: int
    recorded_arguments: list[str]
    outputs: dict[str, str]
    summary: str
    folder: Path = field(default_factory=Path)


def validate(action: dict[str, Any], folder: Path, code: int = 0, **inputs: str) -> StepResult:
    """Runs the step ``Validate`` with some inputs and defaults for all others."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    fake = bin_folder / "equipoise"
    note = f'python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@" > {folder}/recorded.json'
    fake.write_text(f"#!/bin/bash\n{note}\necho the table\nexit {code}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    found = step(action, "Validate")
    given = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    given.update({name.replace("_", "-"): value for name, value in inputs.items()})
    variables = {
        name: given[re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text)[1]]  # type: ignore[index]
        for name, text in found["env"].items()
    }
    environment = {
        **os.environ,
        **variables,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
    }
    # As GitHub runs `shell: bash`.
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]]
    done = subprocess.run(bash, env=environment, cwd=folder, capture_output=True, check=False)
    lines = (folder / "output").read_text().splitlines()
    return StepResult(
        done.returncode,
        json.loads((folder / "recorded.json").read_text()),
        dict(line.split("=", 1) for line in lines),
        (folder / "summary").read_text(),
        folder,
    )


def parse_arguments(recorded_arguments: list[str]) -> dict[str, Any]:
    """Returns the arguments as the command parses them; an unknown option is an error."""
    name, *arguments = recorded_arguments
    command = main.root.get_command(CONTEXT, name)
    assert command is not None
    return command.make_context(name, arguments).params


def test_defaults(action: dict[str, Any], tmp_path: Path) -> None:
    done = validate(action, tmp_path, model="models/bert")
    found = parse_arguments(done.recorded_arguments)
    reports = tmp_path / "temp" / "equipoise-reports" / "equipoise"
    assert (found["model"], found["artifacts"], found["backends"]) == ("models/bert", (), None)
    assert (found["precision"], found["strict"], found["task"]) == ("fp32", True, None)
    assert found["environments"] == (
        ("oracle", str(tmp_path / "temp" / "equipoise-oracle" / "bin" / "python")),
    )
    assert found["report"] == reports / "report.html"
    assert (found["json_file"], found["junit"]) == (reports / "report.json", reports / "junit.xml")
    assert done.code == 0
    assert done.outputs == {"report": str(reports), "exit-code": "0"}
    assert done.summary == "### Equipoise: equipoise\n\n~~~text\nthe table\n~~~\n"


def test_every_input(action: dict[str, Any], tmp_path: Path) -> None:
    done = validate(
        action,
        tmp_path,
        code=1,
        model="-odd model",
        artifacts="a b.onnx\nprogram.pt2\n",
        backends="flax,tensorflow",
        task="fill-mask",
        precision="bf16",
        strict="false",
        args="--cases single,batch --threads 1",
        oracle="false",
        report_name="bf16",
    )
    found = parse_arguments(done.recorded_arguments)
    assert found["model"] == "-odd model"
    assert found["artifacts"] == (Path("a b.onnx"), Path("program.pt2"))
    assert (found["backends"], found["task"]) == ("flax,tensorflow", "fill-mask")
    assert (found["precision"], found["strict"], found["environments"]) == ("bf16", False, ())
    assert (found["cases"], found["threads"]) == ("single,batch", 1)
    assert (done.code, done.outputs["exit-code"]) == (1, "1")
    assert done.outputs["report"].endswith("/bf16")


def test_inputs_are_no_commands(action: dict[str, Any], tmp_path: Path) -> None:
    """The shell must not execute text from a pull request, e.g. names of files."""
    attack = "$(touch pwned) `touch pwned` ; touch pwned"
    done = validate(action, tmp_path, model=attack, artifacts=attack, task=attack, args=attack)
    assert done.recorded_arguments.count(attack) == 3
    assert not (tmp_path / "pwned").exists()
    for one in action["runs"]["steps"]:
        assert "${{" not in one.get("run", "")


def test_oracle_environment_is_created_with_valid_options(action: dict[str, Any]) -> None:
    words = step(action, "Make the environment of TensorFlow and Flax")["run"].split()
    assert words[0] == "equipoise"
    found = parse_arguments([word.strip('"') for word in words[1:]])
    assert (found["action"], found["name"], found["force"]) == ("create", "oracle", True)


def test_every_input_is_used(action: dict[str, Any]) -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    assert used == set(action["inputs"])
    assert all(one["description"].endswith(".") for one in action["inputs"].values())


def test_extras_and_requirements_exist(action: dict[str, Any]) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = action["inputs"]["extras"]["default"].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert list((ROOT / "validators" / "requirements").glob("*.txt"))
