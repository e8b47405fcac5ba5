"""What nobody expected has an exit code of its own, and what a file holds never reaches a terminal unescaped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equipoise.cli import main
from equipoise.fixtures.synthetic import write_small_bert, write_tensors

ESCAPE = "\x1b[2J\x9b31m\u202eevil"


def break_inspect(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Makes the command `inspect` raise an exception."""

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("equipoise.convert.checkpoints.hub.resolve_source", fail)


def test_an_unexpected_exception_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_inspect(monkeypatch, KeyError("odd"))
    assert main.run(["inspect", "folder"]) == 70
    message = capsys.readouterr().err
    assert message.startswith("error: KeyError: 'odd' (test_defects.py, line ")
    assert "please report it" in message
    assert "Traceback" not in message
    assert main.run(["inspect", "folder", "--json"]) == 70
    assert json.loads(capsys.readouterr().out)["error"] == "Defect"
    monkeypatch.setenv("EQUIPOISE_TRACEBACK", "1")
    assert main.run(["inspect", "folder"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "a.bin"), "a.bin: cannot be used: Permission"),
        (OSError(36, "File name too long", "x" * 5000), f"{'x' * 200}...: cannot be used: File"),
        (ModuleNotFoundError("", name="PIL.Image"), "to do:    pip install pillow"),
        (ModuleNotFoundError("", name="torch"), "needs the package 'torch', which is not inst"),
    ],
)
def test_what_the_user_can_mend_is_bad_input(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_inspect(monkeypatch, error)
    assert main.run(["inspect", "folder"]) == 2
    message = capsys.readouterr().err
    assert text in message
    assert len(message) < 500


def test_a_module_of_equipoise_that_is_missing_is_a_defect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_inspect(monkeypatch, ModuleNotFoundError("", name="equipoise.absent"))
    assert main.run(["inspect", "folder"]) == 70


def test_a_reader_that_ends_is_no_defect(tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    tensors = {f"tensor.{index}": np.zeros(1, np.float32) for index in range(5000)}
    write_tensors(source / "model.safetensors", tensors)
    command = [sys.executable, "-m", "equipoise.cli", "inspect", str(source), "--tensors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        message = process.stderr.read()
    assert (process.returncode, message) == (141, b"")


@pytest.mark.parametrize("options", [[], ["--tensors"], ["--tensors", "--json"]])
def test_names_of_tensors_do_not_reach_a_terminal_unescaped(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_small_bert(tmp_path / "bert")
    write_tensors(source / "model.safetensors", {f"a{ESCAPE}": np.zeros(3, np.float32)})
    assert main.run(["inspect", str(source), *options]) == 0
    out = capsys.readouterr().out
    assert not set(ESCAPE[:8]) & {"\x1b", "\x9b"} & set(out)
    if "--json" in options:
        assert json.loads(out)["tensors"][0]["name"] == f"a{ESCAPE}"
    main.run(["diff", str(source), str(source)])
    main.run(["convert", str(source), str(tmp_path / "out"), "--to", "flax"])
    caught = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\u202e"} & set(caught.out + caught.err)
    assert "\\x1b[2J" in caught.out + caught.err
