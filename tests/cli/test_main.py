"""The command line as a whole: its commands, their options, its speed and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from equipoise.cli import main
from equipoise.cli._types import ByteSize

OPTIONS = {
    "bisect": [
        *("--backends", "--case", "--device", "--env", "--json", "--memory-limit", "--precision"),
        *("--repro", "--task", "--threads", "--time-limit", "ARTIFACTS", "MODEL"),
    ],
    "convert": [
        *(
            "--allow",
            "--allow-lossy",
            "--architecture",
            "--config",
            "--dequantize",
            "--dry-run",
            "--dtype",
        ),
        *("--force", "--from", "--json", "--max-shard-size", "--merge-adapter"),
        *("--revision", "--subtree", "--to", "--unproven", "--variant", "OUTPUT", "SOURCE"),
    ],
    "derive": ["--also", "--class", "--force", "--json", "--output", "SOURCE"],
    "diff": [
        *("--architecture", "--json", "--subtree", "--subtree-b", "--variant", "--variant-b"),
        *("A", "B"),
    ],
    "env": ["--force", "--path", "--python", "ACTION", "NAME"],
    "export": [
        *(
            "--atol",
            "--batch",
            "--budget",
            "--cases",
            "--device",
            "--dtype",
            "--env",
            "--external-data",
        ),
        *(
            "--force",
            "--graph",
            "--json",
            "--layout",
            "--max-shard-size",
            "--memory-limit",
            "--merged",
        ),
        *("--no-validate", "--opset", "--optimize", "--quantize", "--rtol"),
        *("--sequence", "--strict", "--task", "--threads", "--time-limit", "--to", "--ways"),
        *("--with-tokenizer", "MODEL", "OUTPUT"),
    ],
    "fleet": [],
    "inspect": [
        *("--architecture", "--config", "--from", "--json", "--revision", "--subtree", "--tensors"),
        *("--variant", "SOURCE"),
    ],
    "matrix": [
        *("--artifacts", "--device", "--env", "--json", "--markdown", "--memory-limit"),
        *("--precision", "--strict", "--tf32", "--threads", "--time-limit", "--workers", "MODELS"),
    ],
    "routes": ["--from", "--json", "--mermaid", "--to"],
    "run": [
        *("--backend", "--companions", "--device", "--env", "--memory-limit", "--option"),
        *("--output", "--threads", "--time-limit", "INPUTS", "MODEL", "TASK"),
    ],
    "validate": [
        *(
            "--against-golden",
            "--atol",
            "--backends",
            "--budget",
            "--cases",
            "--device",
            "--env",
            "--json",
        ),
        *("--junit", "--max-samples", "--memory-limit", "--precision", "--report", "--repro"),
        *("--rtol", "--samples"),
        *("--save-golden", "--strict", "--task", "--tf32", "--threads", "--time-limit"),
        *("ARTIFACTS", "MODEL"),
    ],
    "verify": [
        *("--architecture", "--config", "--json", "--merge-adapter", "--revision", "--source"),
        "OUTPUT",
    ],
}
"""The public surface. Scripts of users depend on it: remove nothing."""

HEAVY = (
    "numpy",
    "h5py",
    "msgpack",
    "blake3",
    "rich",
    "ml_dtypes",
    "safetensors",
    "equipoise.convert",
)


def options_of(command: click.Command) -> list[str]:
    names = []
    for parameter in command.params:
        option = isinstance(parameter, click.Option)
        names.append(max(parameter.opts, key=len) if option else parameter.opts[0].upper())
    return sorted(names)


def test_the_options_of_every_command_are_these() -> None:
    context = click.Context(main.root)
    commands = {name: main.root.get_command(context, name) for name in OPTIONS}
    assert main.root.list_commands(context) == sorted(OPTIONS)
    assert {name: options_of(one) for name, one in commands.items() if one} == OPTIONS


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in OPTIONS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom equipoise.cli.main import run\n"
        f"code = run({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("Usage: equipoise")


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "equipoise", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("equipoise ")


def test_usage_errors_exit_with_2(cli: Callable[..., Any]) -> None:
    outcome = cli("convert", "a")
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Missing argument 'OUTPUT'" in outcome.err
    outcome = cli("convert", "a", "b", "--json")
    assert outcome.data == {"error": "MissingParameter", "message": "Missing option '--to'."}
    assert outcome.err == ""


def test_an_unknown_command_exits_with_2(cli: Callable[..., Any]) -> None:
    assert cli("translate").code == 2


def test_errors_are_reported_without_a_traceback(cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli("inspect", tmp_path / "absent")
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err == f"error: {tmp_path}/absent: there is no such file or folder\n"
    outcome = cli("inspect", tmp_path / "absent", "--json")
    assert outcome.code == 2
    assert outcome.err == ""
    assert outcome.data == {
        "error": "CheckpointError",
        "message": "there is no such file or folder",
        "file": str(tmp_path / "absent"),
    }


def test_an_interrupt_exits_with_130_and_keeps_finished_files(
    cli: Callable[..., Any], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = import_module("equipoise.convert.conversion.execute")._PlanExecution
    real = runs._write_shard
    calls = []

    def interrupted(self: Any, shard: Any) -> Any:
        calls.append(shard.filename)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, shard)

    arguments = ("convert", bert, tmp_path / "out", "--to", "flax", "--max-shard-size", "8kB")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_write_shard", interrupted)
        assert cli(*arguments).code == 130
    assert not (tmp_path / "out").exists()
    progress = json.loads((tmp_path / ".out.equipoise" / "equipoise.progress.json").read_text())
    assert list(progress["finished"]) == calls[:1]
    inode = (tmp_path / ".out.equipoise" / "new" / calls[0]).stat().st_ino
    assert cli(*arguments).code == 0
    assert (tmp_path / "out" / calls[0]).stat().st_ino == inode


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("5GB", 5_000_000_000),
        ("500mb", 500_000_000),
        ("2GiB", 2 << 30),
        ("1.5 kB", 1500),
        ("12345", 12345),
        ("7B", 7),
    ],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert ByteSize().convert(text, None, None) == nbytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5XB", "5 G B", "0", "1e9", "0.1"])
def test_malformed_sizes_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a size|less than a byte"):
        ByteSize().convert(text, None, None)


@pytest.mark.parametrize("text", ["name", "name=", "=reason", "name=  "])
def test_a_loss_needs_a_reason(cli: Callable[..., Any], text: str) -> None:
    outcome = cli("convert", "a", "b", "--to", "flax", "--allow", text)
    assert outcome.code == 2
    assert "a reason is required" in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", ""),
        ("convert", "", "out", "--to", "flax"),
        ("convert", ".", "", "--to", "flax", "--force"),
        ("export", "", "out", "--to", "onnx"),
        ("verify", ""),
        ("validate", ""),
        ("validate", ".", ""),
        ("validate", ".", "--report", ""),
        ("matrix", ""),
        ("bisect", "", "out"),
        ("derive", ""),
    ],
)
def test_an_empty_path_is_not_the_working_folder(
    words: tuple[str, ...], cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``equipoise convert "$MODEL" "$OUTPUT" --force`` with a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    outcome = cli(*words)
    assert outcome.code == 2
    assert "the path is empty" in outcome.err
    assert not list(tmp_path.iterdir())


def test_total_time(
    cli: Callable[..., Any], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that takes longer ends with exit code 3, one message, and no folder; the next one has no timer."""
    from equipoise.convert import api

    def convert_slowly(*_: object, **__: object) -> None:
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001 - a handler like those of a command does not catch it
            pytest.fail("caught")

    monkeypatch.setattr(api, "plan_conversion", convert_slowly)
    arguments = ("--total-time", "0.2s", "convert", bert, tmp_path / "out", "--to", "flax")
    outcome = cli(*arguments)
    assert outcome.code == 3
    assert outcome.err.strip() == "error: the command took longer than its total time of 0.2 s"
    outcome = cli(*arguments, "--json")
    assert (outcome.code, json.loads(outcome.out)["error"]) == (3, "LimitError")
    assert not (tmp_path / "out").exists()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
