"""The executor of Ray: two nodes on this machine, and the same results as in local processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_results import repeatable_results

pytest.importorskip("ray")

from equipoise.convert.core.errors import InputError
from equipoise.fleet.executors.ray import _room

TASKS = Path(__file__).parents[3] / "fixtures" / "tasks"
KINDS = ("text-classification", "image-classification", "fill-mask")
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """Yields the address of a cluster with two nodes of one core each."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if line.startswith("127.") or line[:1].isdigit())
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def convert(models: Path, out: Path, *options: str, **environment: str) -> int:
    line = ["fleet", "convert", str(models), "--out", str(out), *options, "--", "--to", "flax"]
    done = subprocess.run(
        [sys.executable, "-m", "equipoise", *line],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode


@pytest.mark.slow
def test_two_nodes_give_what_one_process_gives(two_nodes: str, tmp_path: Path) -> None:
    for index in range(8):
        shutil.copytree(TASKS / KINDS[index % 3], tmp_path / "models" / f"m{index}")
    (tmp_path / "models" / "m7" / "model.safetensors").write_bytes(b"no weights")
    codes = [
        convert(tmp_path / "models", tmp_path / "ray", "--executor", "ray", RAY_ADDRESS=two_nodes),
        convert(tmp_path / "models", tmp_path / "local", "--workers", "1"),
    ]
    assert codes == [2, 2]
    assert len(repeatable_results(tmp_path / "ray")) == 8
    assert repeatable_results(tmp_path / "ray") == repeatable_results(tmp_path / "local")


@pytest.mark.slow
def test_no_cluster(tmp_path: Path) -> None:
    shutil.copytree(TASKS / KINDS[0], tmp_path / "models" / "m")
    address = {"RAY_ADDRESS": "127.0.0.1:1"}
    assert convert(tmp_path / "models", tmp_path / "out", "--executor", "ray", **address) == 2


def test_room() -> None:
    assert _room({"CPU": 9, "GPU": 2}, {"cpu": 2, "gpu": 1}) == 2
    assert _room({"CPU": 9}, {}) == 9
    with pytest.raises(InputError, match="no room for one worker"):
        _room({"CPU": 9}, {"gpu": 1})
