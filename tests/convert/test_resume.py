"""A killed conversion leaves no folder that looks finished, and resumes to the same bytes."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.core.errors import OutputError
from equipoise.fixtures.synthetic import write_checkpoint, write_small_bert

CONFIG = {
    **dict.fromkeys(("hidden_size", "intermediate_size"), 256),
    "vocab_size": 4000,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
"""A BERT of 2.5 million parameters, 10 MB."""
SHARD = 1 << 20
KILLS = 50
SEED = 20

RUN = f"""
import sys
from equipoise.convert import convert
print("ready", flush=True)
convert(sys.argv[1], sys.argv[2], to=sys.argv[3], max_shard_size={SHARD})
"""


def start(source: Path, output: Path, to: str) -> subprocess.Popen[str]:
    """Starts a conversion in another process and waits until its imports are done."""
    command = [sys.executable, "-c", RUN, str(source), str(output), to]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "bert"
    return write_checkpoint(folder, "bert", "BertForMaskedLM", CONFIG)


@pytest.mark.slow
def wait_for_shards(hidden: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Waits until a run has begun so many shards, or has ended."""
    while process.poll() is None and len(list(hidden.glob("new/*-of-*"))) < count:
        time.sleep(0.001)


@pytest.mark.parametrize("to", ["flax", "tensorflow"])
def test_killed_at_random_moments(to: str, source: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with start(source, tmp_path / "whole", to) as undisturbed:
        ready = time.monotonic()
        assert undisturbed.wait() == 0
    duration = time.monotonic() - ready
    assert ready > began
    expected = hashes(tmp_path / "whole")
    assert len(expected) > 8

    generator = random.Random(SEED)
    work, output = tmp_path / "work", tmp_path / "work" / "out"
    hidden = work / ".out.equipoise"
    work.mkdir()
    killed = resumable = 0
    while killed < KILLS // 2:
        with start(source, output, to) as process:
            if killed % 2:  # however slow the machine is, some kills leave finished shards
                wait_for_shards(hidden, generator.randint(2, len(expected) - 2), process)
            else:
                time.sleep(generator.uniform(0, duration))
            process.kill()
        there = {path.name for path in work.iterdir()}
        if output.exists():
            # The kill came too late: the folder is complete. Where it was built may still be there; the next run removes it.
            assert there <= {"out", ".out.equipoise"}
            assert hashes(output) == expected
            shutil.rmtree(output)
            killed += process.returncode != 0
            continue
        assert process.returncode != 0
        killed += 1
        assert there <= {".out.equipoise"}
        resumable += len(list(hidden.glob("new/*-of-*"))) > 1
        if generator.random() < 0.3:  # otherwise finished shards would soon leave nothing to kill
            shutil.rmtree(hidden, ignore_errors=True)
    assert resumable > 2
    with start(source, output, to) as process:
        assert process.wait() == 0
    assert {path.name for path in work.iterdir()} == {"out"}
    assert hashes(output) == expected


class Killed(BaseException):
    """Simulates a kill at a certain call; no handler catches it."""


@pytest.mark.parametrize("at", range(4))
def test_killed_while_the_folder_is_put_into_its_place(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_small_bert(tmp_path / "source")
    convert(source, tmp_path / "whole", to="flax")
    expected = hashes(tmp_path / "whole")
    work, output = tmp_path / "work", tmp_path / "work" / "out"
    convert(write_small_bert(tmp_path / "old", seed=1), output, to="flax")
    old = hashes(output)
    calls = [0]

    def killing(name: str) -> None:
        real = getattr(Path, name)

        def call(self: Path, *arguments: Path) -> object:
            calls[0] += 1
            if calls[0] > at:
                raise Killed
            return real(self, *arguments)

        patch.setattr(Path, name, call)

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink"):
            killing(name)
        try:
            convert(source, output, to="flax", force=True)
        except Killed:
            left = {path.name for path in work.iterdir()}
            assert left <= {"out", ".out.equipoise"}
            assert "out" not in left or hashes(output) in (old, expected)
            # The replaced folder is not lost before the new one is in its place.
            surviving = output if "out" in left else work / ".out.equipoise" / "old"
            assert hashes(surviving) in (old, expected)
    convert(source, output, to="flax", force=True)
    assert hashes(output) == expected
    assert {path.name for path in work.iterdir()} == {"out"}


def test_finished_shards_of_another_conversion_are_discarded(tmp_path: Path) -> None:
    source, other = write_small_bert(tmp_path / "a"), write_small_bert(tmp_path / "b", seed=1)
    output = tmp_path / "out"
    for one in (source, other):
        with pytest.raises(KeyboardInterrupt):
            convert(one, output, to="flax", max_shard_size=6000, progress=_interrupt)
        assert (tmp_path / ".out.equipoise/new/flax_model-00001-of-00003.msgpack").exists()
    convert(source, output, to="flax", max_shard_size=6000)
    convert(source, tmp_path / "whole", to="flax", max_shard_size=6000)
    assert hashes(output) == hashes(tmp_path / "whole")


def _interrupt(done: int, total: int, name: str) -> None:
    """Stops in the second of three shards."""
    if done > total // 2:
        raise KeyboardInterrupt


def test_two_conversions_into_one_folder(tmp_path: Path) -> None:
    """The second is refused while the first runs, and does not touch its files."""
    source = write_small_bert(tmp_path / "source")
    other: list[OutputError] = []

    def progress(done: int, total: int, name: str) -> None:
        if not other:
            with pytest.raises(OutputError, match="another process is writing") as refused:
                convert(source, tmp_path / "out", to="flax")
            other.append(refused.value)

    convert(source, tmp_path / "out", to="flax", progress=progress)
    assert other
    assert open_checkpoint(tmp_path / "out").tensors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
