"""The modules of sentence-transformers travel with the transformer, wherever it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from equipoise.convert import convert
from equipoise.convert.verify import verify
from equipoise.fixtures.synthetic import write_small_bert

KINDS = ("Transformer", "Pooling", "Dense", "Normalize")


def sentence_model(folder: Path, place: str) -> Path:
    """Writes a model of a transformer, pooling, a dense layer and normalization; the transformer lies in ``place``."""
    paths = [place, "1_Pooling", "2_Dense", "3_Normalize"]
    bert = write_small_bert(folder / place if place else folder)
    for path in paths[1:]:
        (folder / path).mkdir()
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (path, kind) in enumerate(zip(paths, KINDS, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 8}')
    (folder / "2_Dense" / "config.json").write_text('{"in_features": 8, "out_features": 3}')
    tensors = load_file(bert / "model.safetensors")
    dense = {"linear.weight": next(iter(tensors.values()))[:3].copy()}
    save_file(dense, folder / "2_Dense" / "model.safetensors")
    return folder


@pytest.mark.parametrize("to", ["pytorch", "flax"])
@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_modules_travel(place: str, to: str, tmp_path: Path) -> None:
    source, out = sentence_model(tmp_path / "source", place), tmp_path / "out"
    manifest = convert(source, out, to=to)
    for name in ("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"):
        assert (out / name).read_bytes() == (source / name).read_bytes()
        assert name in manifest.values["companions"]
    modules = json.loads((out / "modules.json").read_text())
    assert [one["path"] for one in modules] == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert "prompts" in json.loads((out / "config_sentence_transformers.json").read_text())
    assert any("2_Dense holds weights of its own" in note for note in manifest.values["notes"])
    assert verify(out, source=source).findings == ()
    convert(source, out, to=to, force=True)


def test_a_changed_module_is_found(tmp_path: Path) -> None:
    source, out = sentence_model(tmp_path / "source", ""), tmp_path / "out"
    convert(source, out, to="pytorch")
    (out / "2_Dense" / "config.json").write_text("{}")
    (out / "2_Dense" / "extra.bin").write_bytes(b"")
    problems = {(one.file, one.problem) for one in verify(out).findings}
    assert problems == {
        ("2_Dense/config.json", "the file has changed"),
        ("2_Dense/extra.bin", "the manifest does not list this file"),
    }


def test_a_module_that_leads_out_of_the_folder_stays_behind(tmp_path: Path) -> None:
    source, out = sentence_model(tmp_path / "source", ""), tmp_path / "out"
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    (source / "2_Dense" / "config.json").unlink()
    (source / "2_Dense" / "config.json").symlink_to(secret)
    modules = json.loads((source / "modules.json").read_text())
    modules[3]["path"] = "../outside"
    (tmp_path / "outside").mkdir()
    (source / "modules.json").write_text(json.dumps(modules))
    notes = convert(source, out, to="pytorch").values["notes"]
    assert any(note.startswith("2_Dense/config.json is not copied: a link") for note in notes)
    assert not (out / "2_Dense" / "config.json").exists()
    assert not (tmp_path / "out" / ".." / "outside" / "config.json").exists()
    assert "root:x" not in "".join(path.read_text(errors="replace") for path in out.rglob("*.json"))
