"""Commands that replace folders are killed at random moments: no file of the user is lost.

``EQUIPOISE_KILLS=50`` kills each command that often.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.convert import convert
from equipoise.convert.core.errors import OutputError
from equipoise.convert.files.ownership import list_entries
from equipoise.fixtures.synthetic import write_checkpoint, write_small_bert

MODEL = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"
KILLS = int(os.environ.get("EQUIPOISE_KILLS", "3"))
EXPORT_KILLS = int(os.environ.get("EQUIPOISE_KILLS", "1"))
"""An export takes five seconds, most of them for imports."""
SEED = 14

CONVERT = """
from equipoise.convert import convert
print("ready", flush=True)
convert(sys.argv[1], sys.argv[2], to="flax", max_shard_size=1 << 20, force=True)
"""

EXPORT = """
from equipoise.cli.main import run
import equipoise.validators.export.export, transformers
print("ready", flush=True)
sys.exit(run(["export", sys.argv[1], sys.argv[2], "--to", "torchscript", "--no-validate", "--force"]))
"""

CREATE = """
import pathlib, subprocess, sysconfig
from equipoise.validators.runtime import environments

def run(command):
    if "venv" in command:
        subprocess.run([*command, "--without-pip"], check=True)
        site = next(pathlib.Path(command[-1]).glob("lib/python*/site-packages"))
        (site / "packages.pth").write_text(sysconfig.get_path("purelib"))

environments._run_command = run
print("ready", flush=True)
environments.create_environment("oracle", pathlib.Path(sys.argv[2]), force=True)
"""


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    """Starts a command in a process group of its own, and waits until its imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{script}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def add_files_of_the_user(work: Path) -> dict[str, str]:
    """Writes files where an output's hidden folders once were; returns their contents."""
    names = ("thesis.txt", ".out.partial/thesis.txt", ".out.replaced/.git/HEAD", ".out.new")
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"years of work: {name}")
    return {name: (work / name).read_text() for name in names}


def kill_at_random_moments(
    script: str, source: Path, work: Path, index: str, *, kills: int = KILLS
) -> None:
    """Kills a command that replaces ``work/out`` again and again; in the end it runs undisturbed."""
    output, hidden = work / "out", work / ".out.equipoise"
    with start(script, source, output) as process:
        begin = time.monotonic()
        assert process.wait() == 0
    duration = time.monotonic() - begin
    mine = add_files_of_the_user(work)
    complete = list_entries(output)
    generator = random.Random(SEED)
    killed = 0
    while killed < kills:
        with start(script, source, output) as process:
            time.sleep(generator.uniform(0, duration))
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        killed += process.returncode != 0
        assert {name: (work / name).read_text() for name in mine} == mine
        standing = output if output.exists() else hidden / "old"
        assert list_entries(standing) == complete
        assert (standing / index).is_file()
    with start(script, source, output) as process:
        assert process.wait() == 0
    assert list_entries(output) == complete
    assert {name: (work / name).read_text() for name in mine} == mine
    left = {path.name for path in work.iterdir()}
    assert left == {"out", "thesis.txt", ".out.partial", ".out.replaced", ".out.new"}


@pytest.mark.slow
def test_convert(tmp_path: Path) -> None:
    config = {
        **dict.fromkeys(("hidden_size", "intermediate_size"), 256),
        "vocab_size": 4000,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    source = write_checkpoint(tmp_path / "source", "bert", "BertForMaskedLM", config)
    (tmp_path / "work").mkdir()
    kill_at_random_moments(CONVERT, source, tmp_path / "work", "equipoise.json")


@pytest.mark.slow
@pytest.mark.transformers
def test_export(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copytree(MODEL, tmp_path / "source")
    (tmp_path / "work").mkdir()
    kill_at_random_moments(
        EXPORT, tmp_path / "source", tmp_path / "work", "artifact.json", kills=EXPORT_KILLS
    )


@pytest.mark.slow
def test_env_create(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    kill_at_random_moments(CREATE, tmp_path, tmp_path / "work", "equipoise-environment.json")


def test_a_folder_of_the_user_is_refused_by_a_killed_and_a_second_run(tmp_path: Path) -> None:
    """A file that the user puts into the old output while a run is killed is not lost by the next run."""
    source, output = write_small_bert(tmp_path / "source"), tmp_path / "out"
    convert(source, output, to="flax")

    def interrupt(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, output, to="flax", force=True, progress=interrupt)
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        convert(source, output, to="flax", force=True)
    assert (output / "thesis.txt").read_text() == "years of work"
