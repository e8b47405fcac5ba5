"""Models of a hundred gigabytes are planned from their headers alone: sparse files, and little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from equipoise.fixtures.sparse_models import holds_sparse_files, write_sparse_model

MAX_BYTES = 200e6

PLAN = """
import json, sys
from equipoise.convert.api import plan_conversion
source, to = sys.argv[1:]
plan = plan_conversion(source, to=to, max_shard_size=5_000_000_000)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
found = {"peak": int(status["VmHWM"].split()[0]) * 1024, "bytes": plan.nbytes, "files": len(plan.shards),
         "targets": sum(len(step.targets) for step in plan.steps), "route": plan.route}
print(json.dumps(found))
"""
CASES: dict[str, dict[str, Any]] = {
    "llama-70b": {"to": "flax", "targets": 723, "route": ["pytorch", "flax"]},
    "mixtral-8x7b": {"to": "pytorch-bin", "targets": 995, "route": ["pytorch"]},
    "switch-large-128": {"to": "t5x", "targets": 557, "route": ["pytorch", "t5x"]},
}
"""Model -> the target, the number of its tensors (experts of a layer are one array in T5X's), and the route."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", CASES)
def test_plan(name: str, tmp_path: Path) -> None:
    if not holds_sparse_files(tmp_path):
        pytest.skip("the file system stores the zeros of sparse files")
    nbytes = write_sparse_model(tmp_path / name, name)
    assert nbytes > 93e9
    case = CASES[name]
    command = [sys.executable, "-c", PLAN, str(tmp_path / name), case["to"]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found.pop("peak") < MAX_BYTES
    assert found.pop("files") >= nbytes / 5e9
    assert found == {"bytes": nbytes, "targets": case["targets"], "route": case["route"]}
