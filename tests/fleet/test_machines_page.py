"""What docs/fleet.md shows for many machines: the lines run the parts that they say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run_script(
    script: str, folder: Path, *, code: int = 0, **variables: str
) -> tuple[list[str], int]:
    """Runs a script with a program in the place of Equipoise; returns the arguments that it got, and the script's exit code."""
    stand_in = folder / "equipoise"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/arguments"\nexit {code}\n')
    stand_in.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", script], env={"PATH": path, **variables}, check=False)
    return (folder / "arguments").read_text().split("\n")[:-1], done.returncode


def parsed(text: str) -> Any:
    return pytest.importorskip("yaml").safe_load(text)


def test_slurm(tmp_path: Path) -> None:
    (script,) = blocks("sh")
    arguments, _ = run_script(script, tmp_path, SLURM_ARRAY_TASK_ID="7")
    assert arguments[3:7] == ["--out", "parts/7", "--shard", "7/64"]
    assert "--array=1-64" in script


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (2, 0), (3, 0), (70, 1), (137, 1)])
def test_kubernetes(code: int, ends: int, tmp_path: Path) -> None:
    """Pod 6 runs part 7; a pod that was killed comes again, one with an answer does not."""
    manifest = parsed(blocks("yaml")[0])
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job")
    spec = manifest["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 64)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # what backoffLimitPerIndex needs
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "-c"]
    (script,) = container["args"]
    arguments, ended = run_script(script, tmp_path, code=code, JOB_COMPLETION_INDEX="6")
    assert arguments[3:7] == ["--out", "/models/parts/7", "--shard", "7/64"]
    assert ended == ends
    assert [one["name"] for one in pod["volumes"]] == [
        one["name"] for one in container["volumeMounts"]
    ]


def test_github(tmp_path: Path) -> None:
    job = parsed(blocks("yaml")[1])["jobs"]["convert"]
    parts = job["strategy"]["matrix"]["part"]
    (line,) = (step["run"] for step in job["steps"] if "fleet" in step.get("run", ""))
    found = [
        run_script(line.replace("${{ matrix.part }}", str(part)), tmp_path)[0][3:7]
        for part in parts
    ]
    assert found == [["--out", f"part-{part}", "--shard", f"{part}/{len(parts)}"] for part in parts]
