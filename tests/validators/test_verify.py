"""``verify`` and ``diff`` on artifacts: files against the manifest, weights against the source, nothing is run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import CheckpointError, InputError
from equipoise.fixtures.synthetic import write_small_bert
from equipoise.validators.verify import find_program, verify_artifact

EMBEDDING = "bert.embeddings.word_embeddings.weight"


def write_artifact(source: Path, folder: Path, row: int | None = None) -> Path:
    """Writes a source's weights as an ONNX file with a manifest; one row of the embedding may be zeroed."""
    folder.mkdir()
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()}
    if row is not None:
        tensors[EMBEDDING] = tensors[EMBEDDING].copy()
        tensors[EMBEDDING][row] = 0
    protos = [numpy_helper.from_array(value, f"model.{name}") for name, value in tensors.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], protos))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "config.json").write_text("{}")
    write_manifest(source, folder)
    return folder


def write_manifest(source: Path, folder: Path) -> None:
    """Writes ``artifact.json`` with the hashes as hashlib computes them."""

    def sha256(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    weights = source / "model.safetensors"
    manifest = {
        "version": 1, "target": "onnx", "program": "model.onnx", "task": "fill-mask", "precision": "float32",
        "source": {"sha256": {weights.name: sha256(weights)}},
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in folder.iterdir()
        },
    }  # fmt: skip
    (folder / "artifact.json").write_text(json.dumps(manifest))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "source")


@pytest.fixture
def artifact(source: Path, tmp_path: Path) -> Path:
    return write_artifact(source, tmp_path / "artifact")


def test_an_unchanged_artifact(source: Path, artifact: Path) -> None:
    (artifact / "README.md").write_text("mine")
    found = verify_artifact(artifact, source=source)
    assert (found.files, found.findings, found.foreign, found.same) == (2, (), ("README.md",), True)
    assert found.audit is not None
    assert len(found.audit.traced) > 40


def test_files_that_are_not_those_of_the_manifest(artifact: Path) -> None:
    (artifact / "config.json").write_text("{ }")
    (artifact / "model.onnx").unlink()
    (artifact / "tokenizer.json").write_text("{}")
    found = verify_artifact(artifact)
    assert {(one.file, one.problem) for one in found.findings} == {
        ("config.json", "the file has changed"),
        ("model.onnx", "the file is missing"),
        ("tokenizer.json", "the manifest does not list this file"),
    }


def test_names_and_links_that_lead_out(artifact: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (artifact / "config.json").unlink()
    os.symlink(secret, artifact / "config.json")
    manifest = json.loads((artifact / "artifact.json").read_text())
    manifest["files"]["../secret"] = {"size": 6, "sha256": "0"}
    (artifact / "artifact.json").write_text(json.dumps(manifest))
    problems = {one.file: one.problem for one in verify_artifact(artifact).findings}
    assert problems == {
        "config.json": "the file is a link",
        "../secret": "the name leads out of the artifact",
    }


def test_a_manifest_made_to_fit_hides_nothing(source: Path, tmp_path: Path) -> None:
    artifact = write_artifact(source, tmp_path / "artifact", row=3)
    assert verify_artifact(artifact).same
    found = verify_artifact(artifact, source=source)
    assert found.findings == ()
    assert not found.same
    assert found.audit is not None
    (finding,) = found.audit.findings
    assert finding.startswith(f"weight model.{EMBEDDING} (float32")
    assert finding.endswith(": row 3 is zero")


def test_a_source_that_is_another(source: Path, artifact: Path, tmp_path: Path) -> None:
    other = write_small_bert(tmp_path / "other", seed=5)
    found = verify_artifact(artifact, source=other)
    assert [(one.side, one.file, one.problem) for one in found.findings] == [
        ("source", "model.safetensors", "not the file that the artifact was made from")
    ]
    assert found.audit is not None
    assert len(found.audit.findings) > 30


def test_what_is_no_artifact(source: Path, artifact: Path) -> None:
    with pytest.raises(CheckpointError):
        verify_artifact(artifact, source=source / "nothing")
    assert find_program(source) is None
    manifest = json.loads((artifact / "artifact.json").read_text())
    (artifact / "artifact.json").write_text(json.dumps({**manifest, "files": {}}))
    with pytest.raises(InputError, match="lists no files"):
        verify_artifact(artifact)


def test_command_lines(
    source: Path, artifact: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = cli("verify", artifact, "--source", source)
    assert outcome.code == 0
    assert "traced to the source" in outcome.out
    assert "2 files checked: no differences from the manifest" in outcome.out
    assert cli("diff", source, artifact).code == 0
    wrong = write_artifact(source, tmp_path / "wrong", row=3)
    outcome = cli("verify", wrong, "--source", source, "--json")
    assert (outcome.code, outcome.data["same"]) == (1, False)
    assert outcome.data["audit"]["not_accounted"][0]["problem"] == "row 3 is zero"
    outcome = cli("diff", source, wrong / "model.onnx")
    assert outcome.code == 1
    assert f"{EMBEDDING}: row 3 is zero" in " ".join(outcome.out.split())
    outcome = cli("diff", source, wrong, "--json")
    assert (outcome.code, len(outcome.data["audit"]["not_accounted"])) == (1, 1)


def test_a_program_that_cannot_be_read(
    source: Path, artifact: Path, cli: Callable[..., Any]
) -> None:
    (artifact / "model.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\x0f")
    outcome = cli("diff", source, artifact)
    assert outcome.code == 2
    assert "truncated" in outcome.err
    outcome = cli("verify", artifact, "--source", source)
    assert outcome.code == 1
    assert "weights not audited" in outcome.out


def test_progress_counts_every_byte(artifact: Path) -> None:
    files = json.loads((artifact / "artifact.json").read_text())["files"]
    seen: list[tuple[str, int]] = []
    verify_artifact(artifact, progress=lambda name, nbytes: seen.append((name, nbytes)))
    assert seen == [(name, (artifact / name).stat().st_size) for name in files]
