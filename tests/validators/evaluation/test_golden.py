"""Recorded reference outputs: the same verdicts without PyTorch, and errors where they do not fit the run."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from task_models import ROOT

from equipoise.cli.main import run

pytestmark = [pytest.mark.transformers, pytest.mark.slow, pytest.mark.xdist_group("golden")]

BERT = ROOT / "tasks" / "text-classification"
BACKEND = Path(__file__).parents[1] / "faulty" / "noisy.py"
CASES = ["--cases", "single,batch", "--threads", "1"]


def validate(folder: Path, *options: object) -> tuple[int, Any]:
    """Returns exit code and report of a validation of a backend from a file."""
    output = folder / "report.json"
    output.unlink(missing_ok=True)
    arguments = ["validate", BERT, "--backends", BACKEND, *CASES, "--json", output, *options]
    code = run([str(one) for one in arguments])
    return code, json.loads(output.read_text()) if output.exists() else None


@pytest.fixture(scope="module")
def recorded_golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Returns a recorded golden and the report of the run that recorded it."""
    folder = tmp_path_factory.mktemp("kept")
    code, report = validate(folder, "--save-golden", folder / "golden")
    assert code == 0
    return folder / "golden", report


@pytest.fixture
def golden(recorded_golden: tuple[Path, Any], tmp_path: Path) -> Path:
    """Returns a copy of the golden that a test may damage."""
    return shutil.copytree(recorded_golden[0], tmp_path / "golden")


@pytest.fixture
def no_pytorch(tmp_path: Path) -> list[str]:
    """Returns options with which the pytorch backend cannot run."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 9\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return ["--env", f"pytorch={python}"]


def test_a_golden_holds_what_transformers_computes(golden: Path) -> None:
    """Inputs of the tokenizer, the truth of a model in float64, PyTorch's own bits, and two draws that differ by roundings."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    text = json.loads((BERT / "samples.json").read_text())[0]["inputs"]["text"]
    encoded = AutoTokenizer.from_pretrained(BERT)([text], return_tensors="pt")
    files = {path.name: dict(np.load(path)) for path in golden.glob("single.*.npz")}
    assert set(files) == {
        f"single.{part}.npz" for part in ("inputs", "reference", "truth", "noise-0", "noise-1")
    }
    for name, value in encoded.items():
        assert np.array_equal(files["single.inputs.npz"][name], value.numpy())
    logits = {}
    for dtype in (torch.float32, torch.float64):
        model = AutoModelForSequenceClassification.from_pretrained(BERT, dtype=dtype).eval()
        with torch.inference_mode():
            logits[dtype] = model(**encoded).logits.numpy()
    truth = files["single.truth.npz"]["logits"]
    assert truth.dtype == np.float64
    np.testing.assert_allclose(truth, logits[torch.float64], rtol=0, atol=1e-13)
    reference = files["single.reference.npz"]["logits"]
    np.testing.assert_allclose(reference, logits[torch.float32], rtol=0, atol=1e-6)
    batch = {
        part: np.load(golden / f"batch.{part}.npz")["logits"]
        for part in ("truth", "reference", "noise-0", "noise-1")
    }
    assert len({value.tobytes() for value in batch.values()}) == 4
    for value in batch.values():
        assert np.abs(value - batch["truth"]).max() < 1e-5


def test_same_verdicts_without_pytorch(
    recorded_golden: tuple[Path, Any], no_pytorch: list[str], tmp_path: Path
) -> None:
    golden, live = recorded_golden
    assert validate(tmp_path, *no_pytorch)[0] == 2
    code, report = validate(tmp_path, *no_pytorch, "--against-golden", golden)
    assert code == 0
    (result,) = report["backends"]
    assert [case["case"] for case in result["cases"]] == ["single", "batch"]
    for ours, theirs in zip(result["cases"], live["backends"][0]["cases"], strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert report["verdict"] == live["verdict"] == "identical"
    assert report["reference"]["origin"] == "kept"
    assert "--against-golden" in report["command"]


def test_other_weights_are_told(golden: Path, no_pytorch: list[str], tmp_path: Path) -> None:
    """A golden knows of which weights it is, by their hash."""
    index = json.loads((golden / "golden.json").read_text())
    (name,) = index["weights"]
    assert index["weights"][name] == hashlib.sha256((BERT / name).read_bytes()).hexdigest()
    assert (
        validate(tmp_path, *no_pytorch, "--against-golden", golden)[1]["reference"]["notes"] == []
    )
    for weights, text in (
        (
            {name: "0" * 64},
            f"the golden was made from other files of weights ({name} 000000000000)",
        ),
        (None, "the golden does not say of which weights it is"),
    ):
        (golden / "golden.json").write_text(json.dumps({**index, "weights": weights}))
        code, report = validate(tmp_path, *no_pytorch, "--against-golden", golden)
        (note,) = report["reference"]["notes"]
        assert code == 0
        assert note.startswith(text)


def test_cases_that_a_golden_lacks_are_named(
    golden: Path, no_pytorch: list[str], tmp_path: Path
) -> None:
    """A golden of an older version has fewer cases; those that are asked for by name must be there."""
    output = tmp_path / "all.json"
    arguments = ["validate", BERT, "--backends", BACKEND, "--threads", "1", "--json", output]
    code = run([str(one) for one in (*arguments, *no_pytorch, "--against-golden", golden)])
    report = json.loads(output.read_text())
    assert code == 0
    assert [case["case"] for case in report["backends"][0]["cases"]] == ["single", "batch"]
    (note,) = report["reference"]["notes"]
    assert note.startswith(
        "the golden lacks these cases, so they were not run: padded, below-power"
    )
    code = run([str(one) for one in (*arguments, "--cases", "long", "--against-golden", golden)])
    assert code == 2


def test_a_fault_is_seen_against_a_golden(
    golden: Path, no_pytorch: list[str], tmp_path: Path
) -> None:
    """Recorded outputs that differ by more than noise make the backend diverge."""
    for part in ("reference", "truth", "noise-0", "noise-1"):
        path = golden / f"batch.{part}.npz"
        with np.load(path) as values:
            changed = {name: -value for name, value in values.items()}
        np.savez(path, **changed)
    code, report = validate(tmp_path, *no_pytorch, "--against-golden", golden)
    assert code == 1
    (result,) = report["backends"]
    assert [case["verdict"] for case in result["cases"]] == ["identical", "diverged"]
    assert result["divergence"] is None, "the first module cannot be found without PyTorch"


def test_changed_samples_are_refused(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples.json"
    samples.write_text(json.dumps([{"inputs": {"text": "The film was very bad."}}] * 3))
    code, _ = validate(tmp_path, "--against-golden", golden, "--samples", samples)
    assert code == 2
    message = capsys.readouterr().err
    assert "the case single has other inputs than when the golden was saved" in message
    assert "create it again with --save-golden" in message


def test_another_tokenizer_is_refused(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(BERT, tmp_path / "model")
    (model / "tokenizer.json").unlink(missing_ok=True)
    lines = (model / "vocab.txt").read_text().split("\n")
    (model / "vocab.txt").write_text("\n".join([*lines[:56], *lines[60:], *lines[56:60]]))
    arguments = ["validate", model, "--backends", BACKEND, *CASES, "--against-golden", golden]
    assert run([str(one) for one in arguments]) == 2
    assert "has other inputs than when the golden was saved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("task", "token-classification", "the task of the golden differs"),
        ("class", "BertForMaskedLM", "the class of the golden differs"),
        ("precision", "float16", "the precision of the golden differs"),
        ("schema", 99, "the schema of the golden differs"),
        ("cases", ["single"], "the golden has no case batch"),
    ],
)
def test_another_golden_is_refused(
    name: str,
    value: Any,
    message: str,
    golden: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = golden / "golden.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), name: value}))
    assert validate(tmp_path, "--against-golden", golden)[0] == 2
    assert message in capsys.readouterr().err


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip_bytes(path: Path) -> None:
    """Changes bytes in the middle, which breaks the archive's checksum."""
    raw = bytearray(path.read_bytes())
    position = raw.index(b"\x93NUMPY") + 130
    raw[position] ^= 0xFF
    path.write_bytes(bytes(raw))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_archive(path: Path) -> None:
    path.write_bytes(b"\x80\x04 a pickle that must not be opened")


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def other_shapes(path: Path) -> None:
    np.savez(path, logits=np.zeros((1, 1), np.float32))


@pytest.mark.parametrize(
    "damage", [truncate, flip_bytes, empty, no_archive, Path.unlink, one_array, other_shapes]
)
def test_damaged_arrays_are_refused(
    damage: Any, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(golden / "batch.truth.npz")
    assert validate(tmp_path, "--against-golden", golden)[0] == 2
    assert "batch.truth.npz" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', None])
def test_damaged_index_is_refused(
    text: str | None, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = golden / "golden.json"
    index.unlink() if text is None else index.write_text(text)
    assert validate(tmp_path, "--against-golden", golden)[0] == 2
    assert "golden.json" in capsys.readouterr().err


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert validate(tmp_path, "--save-golden", tmp_path / "file" / "golden")[0] == 2
    assert "cannot be written" in capsys.readouterr().err
