"""What nobody expected has an exit code of its own, and what a file holds never reaches a terminal unescaped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equipoise.cli import main
from equipoise.convert.core.errors import WorkerError
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
    command = [sys.executable, "-m", "equipoise", "inspect", str(source), "--tensors"]
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


def run_in_shell(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs ``equipoise COMMAND`` in a shell, which redirects streams; the arguments are ``$1`` and so on."""
    line = f'"$0" -m equipoise {command}'
    words = ["sh", "-c", line, sys.executable, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_defect(closed: str, tmp_path: Path) -> None:
    """What a library prints does not get into a file that has the number of a closed stream."""
    source = write_small_bert(tmp_path / "bert")
    done = run_in_shell(f'convert "$1" "$2" --to flax {closed}', source, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert main.run(["verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    "command", ['inspect "$1"', 'inspect "$1" --tensors --json', "routes --mermaid", "--version"]
)
def test_a_stdout_that_cannot_be_written(command: str, tmp_path: Path) -> None:
    done = run_in_shell(f"{command} > /dev/full", write_small_bert(tmp_path / "bert"))
    message = "error: stdout cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_errors_that_nobody_can_be_told() -> None:
    """Stderr is full as well, or the result of ``--json`` is what cannot be written."""
    for command in ("inspect ./absent 2> /dev/full", "inspect --absent 2> /dev/full"):
        assert run_in_shell(command).returncode == 2
    for command, message in (
        ("inspect ./absent --json > /dev/full", "error: ./absent: there is no such file"),
        ("--help > /dev/full", "error: cannot go on: No space left on device"),
    ):
        done = run_in_shell(command)
        assert (done.returncode, done.stderr[: len(message)]) == (2, message)


def test_json_of_a_defect_has_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_inspect(monkeypatch, KeyError("odd"))
    assert main.run(["inspect", "folder", "--json"]) == 70
    values = json.loads(capsys.readouterr().out)
    assert values["message"].startswith("KeyError: 'odd' (test_defects.py, line ")
    assert "\n" not in values["message"]
    assert values["hint"].startswith("please report it")
    break_inspect(monkeypatch, OSError(24, "Too many open files"))
    assert main.run(["inspect", "folder", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": "OutputError",
        "message": "cannot go on: Too many open files",
        "hint": "allow more open files (`ulimit -n`), then run it again",
    }


def test_no_traceback_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure in a worker process is one message; its traceback is for those who ask."""
    error = WorkerError("'run' failed: ValueError: no\nTraceback (most recent call last):\n  x")
    break_inspect(monkeypatch, error)
    assert main.run(["inspect", "x"]) == 2
    assert capsys.readouterr().err == "error: 'run' failed: ValueError: no\n"
    monkeypatch.setenv("EQUIPOISE_TRACEBACK", "1")
    main.run(["inspect", "x"])
    assert "Traceback" in capsys.readouterr().err
