"""A matrix as a fleet: killed after its first model, it validates the others alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.fleet.matrix import Matrix, _job

TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"
NAMES = ("fill-mask", "text-classification")
TABLE = """\
model                task                 pytorch    tensorflow  flax
fill-mask            fill-mask            identical  -           -
text-classification  text-classification  identical  -           -
"""


def test_a_folder_without_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt folder of programs would validate none of them without a word."""
    from equipoise.cli.main import run as command

    make_models(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        line = ["matrix", str(tmp_path / "models"), "--artifacts", str(tmp_path / name)]
        assert command(line) == 2
        assert "no programs for any of the models" in capsys.readouterr().err
    line = ["matrix", str(tmp_path / "models"), "--json", "-", "--markdown", "-"]
    assert command(line) == 2
    assert "cannot both be stdout" in capsys.readouterr().out


def make_models(folder: Path) -> None:
    """Writes two models, each with a checkpoint of the same weights to compare it with."""
    for name in NAMES:
        shutil.copytree(TASKS / name, folder / "models" / name)
        shutil.copytree(TASKS / name, folder / "programs" / name / "copy")


def wait_for(path: Path, pattern: str, process: subprocess.Popen[bytes]) -> Path:
    while not (found := list(path.glob(pattern))):
        assert process.poll() is None
        time.sleep(0.02)
    return found[0]


@pytest.mark.slow
def test_a_killed_matrix_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    make_models(tmp_path)
    line = [sys.executable, "-m", "equipoise", "matrix", "models", "--artifacts", "programs", "--threads", "1"]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    kept = tmp_path / "cache" / "equipoise" / "matrix"

    first = subprocess.Popen(line, cwd=tmp_path, env=environment)
    result = json.loads(wait_for(kept, "*/results/*/*.json", first).read_text())
    claimed = wait_for(kept, "*/claims/*", first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (result["name"], claimed.exists()) == (f"models--{NAMES[0]}", True)
    assert len(list(kept.glob("*/results/*/*.json"))) == 1
    report = json.loads((claimed.parents[1] / result["output"] / "report.json").read_text())
    again = subprocess.run(
        [*line, "--json", "all.json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (again.returncode, list(kept.iterdir())) == (0, [])
    assert again.stdout.partition("- fill-mask")[0] == TABLE
    found = json.loads((tmp_path / "all.json").read_text())
    assert found[0] == report  # to the microsecond of each pass
    assert [Path(one["model"]).name for one in found] == list(NAMES)


def test_what_decides_a_row(tmp_path: Path) -> None:
    """Another option, another program, or a program that was written again is another job; the same again is the same."""
    make_models(tmp_path)
    model, programs = tmp_path / "models" / NAMES[0], tmp_path / "programs"
    jobs = [
        _job(Matrix([model]), model),
        _job(Matrix([model], ("--tf32",)), model),
        _job(Matrix([model], artifacts=programs), model),
    ]
    (programs / NAMES[0] / "copy" / "config.json").touch()
    jobs.append(_job(Matrix([model], artifacts=programs), model))
    assert len({job.key for job in jobs}) == 4
    assert _job(Matrix([model], artifacts=programs, workers=2), model) == jobs[-1]
