"""``make gpu`` without a GPU, and its parts with stand-ins."""

from __future__ import annotations

import json
import os
import stat
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ABOUT = {"date": "2026-11-28", "gpus": ["NVIDIA H100, 81559 MiB, 580.1"], "versions": {}}


@pytest.fixture(scope="module")
def gpu() -> Any:
    spec = spec_from_file_location("benchmarks_gpu", ROOT / "benchmarks" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bin_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def smi(folder: Path, script: str) -> None:
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def read(output: str, _: Path) -> dict[str, Any]:
    return {"read": output.strip()}


def part(gpu: Any, name: str, code: str, limit: float = 30) -> Any:
    return gpu.Part(name, ((sys.executable, "-c", code),), limit, read)


def test_missing_gpu_is_reported(
    gpu: Any, bin_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smi(bin_path, "echo No devices were found; exit 6")
    assert gpu.main([], tmp_path) == 0
    assert capsys.readouterr().out.startswith("no GPU: ")
    assert list(tmp_path.glob("*.json")) == []


def test_results_file_is_named_by_date(
    gpu: Any, bin_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(bin_path, "echo 'NVIDIA H100, 81559 MiB, 580.1'")
    parts = [part(gpu, "tests", "print(1)"), part(gpu, "speed/bert", "print(2)")]
    monkeypatch.setattr(gpu, "list_parts", lambda: parts)
    assert gpu.main(["--only", "speed"], tmp_path) == 0
    (file,) = tmp_path.glob("gpu-*.json")
    found = json.loads(file.read_text())
    assert file.stem == f"gpu-{found['date']}"
    assert found["gpus"] == ABOUT["gpus"]
    assert set(gpu.LIBRARIES) < set(found["versions"])
    assert found["parts"]["speed/bert"]["read"] == "2"
    assert gpu.main([], tmp_path) == 0
    assert list(json.loads(file.read_text())["parts"]) == ["speed/bert", "tests"]


def test_failed_and_timed_out_parts_run_again(gpu: Any, tmp_path: Path) -> None:
    file, mark = tmp_path / "gpu.json", tmp_path / "mark"
    fails = f"import pathlib, sys; sys.exit(not pathlib.Path({str(mark)!r}).exists())"
    slow = "import time; print('begun', flush=True); time.sleep(60)"
    todo = [part(gpu, "fails", fails), part(gpu, "slow", slow, 1), part(gpu, "good", "print(3)")]
    assert gpu.run_parts(todo, file, ABOUT, 60) == ["fails", "slow"]
    found = json.loads(file.read_text())["parts"]
    assert [one["state"] for one in found.values()] == ["failed", "timed out", "done"]
    assert found["slow"]["output"] == "begun\n"
    assert found["slow"]["seconds"] < 20
    mark.touch()
    todo[2] = part(gpu, "good", "raise SystemExit('is not run again')")
    assert gpu.run_parts(todo, file, ABOUT, 60) == ["slow"]
    assert gpu.run_parts(todo[2:], file, ABOUT, 60, again=True) == ["good"]


def test_no_part_starts_without_time_left(gpu: Any, tmp_path: Path) -> None:
    todo = [part(gpu, "late", "print(1)")]
    assert gpu.run_parts(todo, tmp_path / "gpu.json", ABOUT, gpu.MIN_SECONDS_LEFT - 1) == ["late"]
    assert not (tmp_path / "gpu.json").exists()


def test_results_of_another_gpu_are_discarded(gpu: Any, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert gpu.run_parts([part(gpu, "a", "print(1)")], file, ABOUT, 60) == []
    assert gpu.run_parts([part(gpu, "b", "print(1)")], file, {**ABOUT, "gpus": ["B"]}, 60) == []
    assert list(json.loads(file.read_text())["parts"]) == ["b"]


def test_commands_name_existing_files(gpu: Any) -> None:
    every = {one.name: one for one in gpu.list_parts()}
    assert len(every) == len(gpu.list_parts()) == 1 + 15 + 4 + 3
    files = [word for word in every["tests"].commands[0] if word.startswith("tests/")]
    assert files == ["tests/validators/backends/test_cuda.py"]
    for model in {*gpu.VALIDATED_MODELS, *gpu.JAX_MODELS}:
        assert (gpu.TASKS / model / "samples.json").is_file()


def test_report_of_a_validation(gpu: Any, tmp_path: Path) -> None:
    about = {"device": "cuda:0", "hardware": "NVIDIA H100"}
    backend = {"label": "flax", "verdict": "identical", "failure": "", "about": about}
    report = {"precision": "float16", "verdict": "identical"}
    report |= {"backends": [{**backend, "seconds": 0.5, "peak_bytes": 7}]}  # type: ignore[dict-item]
    (tmp_path / "report.json").write_text(json.dumps(report))
    found = gpu.read_report("", tmp_path)
    assert found["backends"]["flax"]["device"] == "cuda:0"
    assert gpu.read_speed('noise\n{"eager": 1.5}\n', tmp_path) == {"eager": 1.5}


def test_without_an_installation_the_checkout_is_on_the_path(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert gpu.process_variables()["PYTHONPATH"] == "mine"
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    paths = gpu.process_variables()["PYTHONPATH"].split(os.pathsep)
    assert paths == [str(ROOT / "tests" / "typing_root"), "mine"]
