"""``env create`` replaces its own environments only, and keeps a good one until the new one works."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.convert.files.ownership import list_entries
from equipoise.validators.runtime import environments
from equipoise.validators.runtime.environments import INDEX_NAME, create_environment

FAKE_PIP = """\
import sys, pathlib
folder = pathlib.Path(sys.executable).parents[1]
(folder / "bin" / "tool").write_text(f"#!{folder}/bin/python\\n")
(folder / "installed").write_text(" ".join(sys.argv[1:]))
"""


def fake_commands(monkeypatch: pytest.MonkeyPatch, *, works: bool = True) -> None:
    """Makes environments without pip that see the packages of this one, and a pip that only writes two files."""

    def run(command: list[str]) -> None:
        if "venv" in command:
            subprocess.run([*command, "--without-pip"], check=True)
            site = next(Path(command[-1]).glob("lib/python*/site-packages"))
            (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
        elif works:
            subprocess.run([command[0], "-c", FAKE_PIP, *command[3:]], check=True)
        else:
            raise WorkerError("pip ended with code 1")

    monkeypatch.setattr(environments, "_run_command", run)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_commands(monkeypatch)
    return create_environment("oracle", tmp_path / "environment")


def test_an_environment_works_where_it_is(environment: Path, tmp_path: Path) -> None:
    """It was built elsewhere: its scripts name its own interpreter, and nothing else is left."""
    assert [path.name for path in tmp_path.iterdir()] == ["environment"]
    assert (environment / "bin" / "tool").read_text() == f"#!{environment}/bin/python\n"
    assert ".equipoise" not in (environment / "bin" / "activate").read_text()
    assert ".equipoise" not in (environment / "pyvenv.cfg").read_text()
    command = [str(environment / "bin" / "python"), "-c", "import sys, numpy; print(sys.prefix)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(environment)


def test_force_replaces_an_environment_of_ours(environment: Path) -> None:
    (environment / "bin" / "tool").write_text("changed")
    with pytest.raises(InputError, match="not empty"):
        create_environment("oracle", environment)
    create_environment("oracle", environment, force=True)
    assert (environment / "bin" / "tool").read_text() != "changed"


@pytest.mark.parametrize("name", ["thesis.txt", ".git/HEAD", "bin/mine.sh", "lib/mine.py"])
def test_what_is_the_users_stays(name: str, environment: Path) -> None:
    (environment / name).parent.mkdir(exist_ok=True)
    (environment / name).write_text("years of work")
    before = list_entries(environment)
    with pytest.raises(InputError, match=r"Equipoise did not make") as error:
        create_environment("oracle", environment, force=True)
    assert error.value.found == name
    assert list_entries(environment) == before


def test_other_folders_and_environments_stay(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_commands(monkeypatch)
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    outcome = cli("env", "create", "oracle", "--path", thesis.parent, "--force")
    assert outcome.code == 2
    assert "found:    thesis.txt" in outcome.err
    assert cli("env", "create", "oracle", "--path", thesis, "--force").code == 2
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    before = list_entries(venv)
    assert cli("env", "create", "oracle", "--path", venv, "--force").code == 2
    assert list_entries(venv) == before
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("oracle", "--python", "/no/such/python"),
        ("oracle", "--python", "no-such-python"),
    ],
)
def test_a_wrong_request_changes_nothing(
    arguments: tuple[str, ...], cli: Callable[..., Any], environment: Path, tmp_path: Path
) -> None:
    before = list_entries(tmp_path)
    outcome = cli("env", "create", *arguments, "--path", environment, "--force")
    assert outcome.code == 2
    assert list_entries(tmp_path) == before


def test_a_good_environment_stays_when_the_new_one_cannot_be_built(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_entries(tmp_path)
    fake_commands(monkeypatch, works=False)
    with pytest.raises(WorkerError, match="pip ended with code 1"):
        create_environment("oracle", environment, force=True)
    assert list_entries(tmp_path) == before
    assert (environment / INDEX_NAME).is_file()
    command = [str(environment / "bin" / "python"), "-c", "import numpy"]
    subprocess.run(command, check=True, env={**os.environ})
