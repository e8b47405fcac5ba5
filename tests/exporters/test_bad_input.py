"""Exports that are refused: a clear message, and no partial output is left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from equipoise.validators.export import export, manifest, targets

pytestmark = pytest.mark.transformers

ROOT = Path(__file__).parents[2] / "fixtures" / "tasks"
BERT = ROOT / "text-classification"


def refused(cli: Callable[..., Any], tmp_path: Path, *arguments: object) -> str:
    """Runs an export that must be refused, checks that the folder is unchanged, and returns the message."""
    outcome = cli("export", *arguments)
    assert outcome.code == 2, outcome.out + outcome.err
    # On a slow machine lines of progress come first.
    lines = [line for line in outcome.err.splitlines() if not line.startswith("... ")]
    assert lines[0].startswith("error: ")
    assert list(tmp_path.iterdir()) == []
    return "\n".join(lines)


def test_unknown_task(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "onnx", "--task", "dreaming")
    assert "dreaming" in message


def test_task_of_another_model(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(
        cli, tmp_path, BERT, tmp_path / "out", "--to", "onnx", "--task", "depth-estimation"
    )
    assert "transformers has no class of this model type for depth-estimation" in message


def test_no_task(cli: Callable[..., Any], tmp_path: Path, tmp_path_factory: Any) -> None:
    model = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(BERT, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "architectures": ["BertForNextSentencePrediction"]})
    )
    message = refused(cli, tmp_path, model, tmp_path / "out", "--to", "onnx")
    assert "--task" in message


def test_no_model(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(cli, tmp_path, tmp_path / "nothing", tmp_path / "out", "--to", "onnx")
    assert "there is no such file or folder" in message


def test_unknown_target(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "coreml")
    assert "expected: onnx, saved-model, stablehlo, tflite, torch-export, torchscript" in message


def test_missing_extra(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "find_spec", lambda name: None if name == "onnxscript" else name)
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "onnx")
    assert "the target 'onnx' needs onnxscript" in message
    assert "pip install 'onnx>=" in message
    assert "pip install -e '.[onnx]'" in message


def test_old_opset(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "onnx", "--opset", 11)
    assert "the opset is too old" in message
    assert "18 or newer" in message


def test_opset_of_another_target(cli: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "torchscript", "--opset", 20)
    assert "torchscript has no opset" in message


@pytest.mark.slow
def test_no_such_axis(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = ROOT / "image-classification"
    message = refused(cli, tmp_path, folder, tmp_path / "out", "--to", "onnx", "--sequence", 8)
    assert "have no axis sequence" in message


def test_occupied_output(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    outcome = cli("export", BERT, tmp_path / "out", "--to", "onnx")
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_full_disk_before(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100, 0))
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "onnx")
    assert "the disk is too full" in message


def test_full_disk_while_writing(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manifest, "copy_companions", full)
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", "torchscript", "--no-validate")
    assert "No space left on device" in message
    assert "make room" in message


@pytest.mark.slow
def test_every_strategy_fails(cli: Callable[..., Any], tmp_path: Path) -> None:
    faulty = Path(__file__).parent / "faulty" / "raises.py"
    message = refused(cli, tmp_path, BERT, tmp_path / "out", "--to", faulty, "--no-validate")
    assert "every way to onnx failed" in message
    assert "dynamo: ValueError: not today" in message
    assert "trace: ValueError: not today" in message


def test_interrupt(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "example_inputs", interrupted)
    assert cli("export", BERT, tmp_path / "out", "--to", "onnx").code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_interrupt_by_signal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "equipoise", "export", str(BERT), str(tmp_path / "out")]
    # What runs in the background of a shell ignores the signal, and its children would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen([*command, "--to", "onnx"], stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob(".out.equipoise/new/way-*")) and time.monotonic() < limit:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user(cli: Callable[..., Any], tmp_path: Path) -> None:
    """It is refused before anything is loaded, and the model's own folder too."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    outcome = cli("export", BERT, tmp_path / "out", "--to", "onnx", "--force")
    assert outcome.code == 2
    assert "found:    thesis.txt" in outcome.err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "model").symlink_to(BERT)
    outcome = cli("export", BERT, tmp_path / "model", "--to", "onnx", "--force")
    assert outcome.code == 2
    assert "the output folder holds the source" in outcome.err


def test_a_model_that_changes_while_it_is_exported(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(BERT, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"

    def change(folder: Path, *arguments: object) -> None:
        weights.write_bytes(weights.read_bytes())

    monkeypatch.setattr(export, "_export_into", change)
    outcome = cli("export", tmp_path / "model", tmp_path / "out", "--to", "onnx")
    assert outcome.code == 2
    assert f"{weights}: the file was changed or replaced" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
