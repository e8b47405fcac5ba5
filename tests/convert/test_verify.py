"""Manipulated outputs and sources: verification names file and tensor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.verify import Finding, verify
from equipoise.fixtures.synthetic import write_small_bert, write_tensors

FORMATS = {
    "tensorflow-h5": "tf_model.h5",
    "flax-msgpack": "flax_model.msgpack",
    "pytorch-safetensors": "model.safetensors",
    "pytorch-bin": "pytorch_model.bin",
    "flax-safetensors": "model.safetensors",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "source")


def finding_fields(findings: tuple[Finding, ...]) -> set[tuple[str, str, str, str | None]]:
    return {(one.side, one.problem, one.file, one.tensor) for one in findings}


def flip(path: Path, offset: int) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("to", FORMATS)
def test_an_unchanged_conversion_passes(to: str, source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to=to, max_shard_size=6000)
    found = verify(tmp_path / "out", source=source)
    assert found.findings == ()
    assert found.derived == 42
    assert found.tensors >= 42  # a tied tensor may have its own name
    assert found.files >= 4


def test_a_link_out_of_the_output_is_a_finding(source: Path, tmp_path: Path) -> None:
    """The bytes are the same, but they lie where others may change them."""
    convert(source, tmp_path / "out", to="flax")
    weights = tmp_path / "out" / "flax_model.msgpack"
    weights.rename(tmp_path / "elsewhere.msgpack")
    weights.symlink_to(tmp_path / "elsewhere.msgpack")
    (found,) = verify(tmp_path / "out").findings
    assert (found.side, found.file) == ("output", "flax_model.msgpack")
    assert found.problem.startswith("not read, since it is a link that leads out of the folder")


@pytest.mark.parametrize("to", FORMATS)
def test_one_flipped_bit_is_found_in_file_and_tensor(to: str, source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to=to)
    refs = open_checkpoint(tmp_path / "out")
    name, ref = list(refs.items())[7]
    assert ref.extent is not None
    flip(tmp_path / "out" / FORMATS[to], ref.extent.offset + 1)
    findings = finding_fields(verify(tmp_path / "out").findings)
    assert ("output", "the file has changed", FORMATS[to], None) in findings
    tensors = {tensor for _, _, _, tensor in findings if tensor is not None}
    if to == "pytorch-bin":  # its checksums refuse the record, which the message names
        assert len(findings) >= 2
    else:
        assert tensors == {name}


def test_a_truncated_file_is_a_finding(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to="flax")
    path = tmp_path / "out" / "flax_model.msgpack"
    path.write_bytes(path.read_bytes()[:-5])
    findings = verify(tmp_path / "out").findings
    assert [one.file for one in findings] == [path.name, path.name]
    assert findings[1].problem.startswith("cannot be read: ")


def test_missing_files_are_findings(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to="flax")
    for name in ("flax_model.msgpack", "config.json"):
        (tmp_path / "out" / name).unlink()
    assert finding_fields(verify(tmp_path / "out").findings) == {
        ("output", "the file is missing", "flax_model.msgpack", None),
        ("output", "the file is missing", "config.json", None),
    }


def rewritten(out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Rewrites the output of a PyTorch conversion with other tensors and a matching file hash."""
    tensors = {name: ref.read() for name, ref in open_checkpoint(out).items()}
    change(tensors)
    write_tensors(out / "model.safetensors", tensors)
    return out


def _drop(tensors: dict[str, Any]) -> None:
    del tensors["cls.predictions.bias"]


def _add(tensors: dict[str, Any]) -> None:
    tensors["cls.extra"] = tensors["cls.predictions.bias"]


def _reshape(tensors: dict[str, Any]) -> None:
    tensors["cls.predictions.bias"] = tensors["cls.predictions.bias"].reshape(1, -1)


def _change(tensors: dict[str, Any]) -> None:
    tensors["cls.predictions.bias"] = -tensors["cls.predictions.bias"]


@pytest.mark.parametrize(
    ("change", "problem", "tensor"),
    [
        (_drop, "the tensor is missing", "cls.predictions.bias"),
        (_add, "the manifest does not list this tensor", "cls.extra"),
        (_reshape, "the dtype or shape has changed", "cls.predictions.bias"),
        (_change, "the tensor has changed", "cls.predictions.bias"),
    ],
)
def test_a_changed_tensor_is_named(
    change: Callable[[dict[str, Any]], None],
    problem: str,
    tensor: str,
    source: Path,
    tmp_path: Path,
) -> None:
    convert(source, tmp_path / "out", to="pytorch")
    rewritten(tmp_path / "out", change)
    assert finding_fields(verify(tmp_path / "out").findings) == {
        ("output", "the file has changed", "model.safetensors", None),
        ("output", problem, "model.safetensors", tensor),
    }


def test_a_changed_source_is_named(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to="tensorflow")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    extent = open_checkpoint(source)[name].extent
    assert extent is not None
    flip(source / "model.safetensors", extent.offset)
    target = "tf_bert_for_masked_lm/bert/encoder/layer_._0/attention/self/query/kernel:0"
    assert verify(tmp_path / "out").findings == ()
    assert finding_fields(verify(tmp_path / "out", source=source).findings) == {
        ("source", "the file has changed", "model.safetensors", None),
        ("source", "the tensor has changed", "model.safetensors", name),
        ("output", "not what the source yields", "tf_model.h5", target),
    }


def test_another_source_is_refused_or_reported(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out", to="flax")
    other = write_small_bert(tmp_path / "other", "BertForMaskedLM", seed=1)
    findings = verify(tmp_path / "out", source=other).findings
    assert {one.problem for one in findings} == {
        "the file has changed",
        "the tensor has changed",
        "not what the source yields",
    }
    with pytest.raises(CheckpointError, match="there is no such file or folder"):
        verify(tmp_path / "out", source=tmp_path / "absent")


def test_a_forged_manifest_does_not_hide_a_change(source: Path, tmp_path: Path) -> None:
    """If output and manifest are changed together, only the source reveals it."""
    convert(source, tmp_path / "out", to="pytorch", dtype="fp16")
    manifest = tmp_path / "out" / "equipoise.json"
    convert(tmp_path / "out", tmp_path / "again", to="pytorch")
    values = json.loads(manifest.read_text())
    rewritten(tmp_path / "again", _change)
    (tmp_path / "out" / "model.safetensors").write_bytes(
        (tmp_path / "again" / "model.safetensors").read_bytes()
    )
    for finding in verify(tmp_path / "out").findings:
        table = values["target"]["files"] if finding.tensor is None else None
        if table is not None:
            table[finding.file] = finding.found
        else:
            values["tensors"][finding.tensor]["blake3"] = finding.found
    manifest.write_text(json.dumps(values))
    assert verify(tmp_path / "out").findings == ()
    assert finding_fields(verify(tmp_path / "out", source=source).findings) == {
        ("output", "not what the source yields", "model.safetensors", "cls.predictions.bias")
    }


def test_hashes_of_tensors_are_those_of_their_bytes(source: Path, tmp_path: Path) -> None:
    manifest = convert(source, tmp_path / "out", to="pytorch", dtype="fp16")
    written = load_file(tmp_path / "out" / "model.safetensors")
    found = {name: record["blake3"] for name, record in manifest.values["tensors"].items()}
    assert found == {name: blake3(array.tobytes()).hexdigest() for name, array in written.items()}
    sources = {name: hash_of(ref.read()) for name, ref in open_checkpoint(source).items()}
    assert manifest.values["sources"] == sources
    text = (tmp_path / "out" / "equipoise.json").read_text()
    assert manifest.text() == text
    assert json.loads(json.dumps(manifest.values)) == manifest.values == json.loads(text)
    assert manifest.values["format"] == 2


def hash_of(array: Array, algorithm: Callable[[bytes], Any] = blake3) -> str:
    return str(algorithm(array.tobytes()).hexdigest())


def in_format_1(out: Path, source: Path) -> dict[str, Any]:
    """Returns the manifest of an output as Equipoise wrote it before tensors had BLAKE3."""
    values: dict[str, Any] = json.loads((out / "equipoise.json").read_text())
    written = load_file(out / "model.safetensors")
    for name, record in values["tensors"].items():
        del record["blake3"]
        record["sha256"] = hash_of(written[name], hashlib.sha256)
    values["sources"] = {
        name: hash_of(ref.read(), hashlib.sha256) for name, ref in open_checkpoint(source).items()
    }
    return {**values, "format": 1}


def test_manifests_of_format_1(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out, to="pytorch")
    values = in_format_1(out, source)
    (out / "equipoise.json").write_text(json.dumps(values))
    assert verify(out, source=source).findings == ()
    values["tensors"]["cls.predictions.bias"]["sha256"] = "0" * 64
    values["sources"][next(iter(values["sources"]))] = "0" * 64
    (out / "equipoise.json").write_text(json.dumps(values))
    sides = [finding.side for finding in verify(out, source=source).findings]
    assert sides == ["output", "source"]
    values["tensors"]["cls.predictions.bias"]["blake3"] = "0" * 64
    del values["tensors"]["cls.predictions.bias"]["sha256"]
    (out / "equipoise.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="sha256 is missing"):
        verify(out)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("format", 99, "not a manifest of this version"),
        ("tensors", {"a": 1}, "tensors.a: 1 is not an object"),
        ("tensors", {"a": {"file": "x"}}, "tensors.a.blake3 is missing"),
        ("tensors", {"a": {"file": "flax_model.msgpack", "alias_of": "b"}}, "'b' is not a tensor"),
        ("tensors", {"a": {"file": "x", "alias_of": "b"}}, "does not list the file 'x'"),
        ("route", None, "route: None is not a list"),
        ("route", [], "route: the list is empty"),
        ("options", {"max_shard_size": "5GB"}, "options.max_shard_size: '5GB' is not an integer"),
        ("sources", {"a": None}, "sources.a: None is not a string"),
        ("target", {}, "target.format is missing"),
        ("target", {"format": "x", "files": {"../x": ""}}, "'../x' is outside its folder"),
    ],
)
def test_a_corrupt_manifest_is_refused(
    key: str, value: object, text: str, source: Path, tmp_path: Path
) -> None:
    convert(source, tmp_path / "out", to="flax")
    path = tmp_path / "out" / "equipoise.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=text):
        verify(tmp_path / "out")


def edit_manifest(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = out / "equipoise.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


NAME = "cls.predictions.bias"


def _move_weights_to_companions(values: dict[str, Any]) -> None:
    values["companions"].update(values["target"]["files"])
    values["target"]["files"] = {}
    values["tensors"] = {}


def _leave_out_weights(values: dict[str, Any]) -> None:
    values["target"]["files"] = {}
    values["tensors"] = {}


@pytest.mark.parametrize(
    "change",
    [
        _leave_out_weights,
        _move_weights_to_companions,
        lambda values: values["tensors"].pop(NAME),
        lambda values: values["sources"].pop(NAME),
        lambda values: values["companions"].pop("config.json"),
        lambda values: values["source"]["files"].clear(),
        lambda values: values.update(dtype="fp16"),
    ],
)
def test_wrong_weights_do_not_pass_with_an_edited_manifest(
    change: Callable[[dict[str, Any]], object], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert(source, out, to="pytorch")
    rewritten(out, _change)
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    edit_manifest(
        out, lambda values: values["target"]["files"].update({"model.safetensors": digest})
    )
    edit_manifest(out, change)
    assert verify(out, source=source).findings


def test_a_tensor_that_is_cut_out_of_file_and_manifest_is_found(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert(source, out, to="pytorch")
    rewritten(out, _drop)
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()

    def change(values: dict[str, Any]) -> None:
        values["target"]["files"]["model.safetensors"] = digest
        del values["tensors"][NAME]

    edit_manifest(out, change)
    assert verify(out).findings == ()
    assert finding_fields(verify(out, source=source).findings) == {
        ("output", "the manifest lacks this tensor", "model.safetensors", NAME)
    }


def test_a_tensor_moved_to_another_shard_is_found(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out, to="pytorch", max_shard_size=6000)
    first, second, *_ = sorted(path.name for path in out.glob("model-*.safetensors"))
    shards = {file: dict(open_container(out / file).tensors.items()) for file in (first, second)}
    arrays = {file: {n: ref.read() for n, ref in refs.items()} for file, refs in shards.items()}
    name = next(iter(arrays[first]))
    arrays[second][name] = arrays[first].pop(name)
    for file, tensors in arrays.items():
        write_tensors(out / file, tensors)

    def change(values: dict[str, Any]) -> None:
        for file in (first, second):
            digest = hashlib.sha256((out / file).read_bytes()).hexdigest()
            values["target"]["files"][file] = digest
        values["tensors"][name]["file"] = second

    edit_manifest(out, change)
    assert verify(out).findings == ()
    assert finding_fields(verify(out, source=source).findings) == {
        ("output", "the manifest names another file for this tensor", first, name)
    }


def test_changed_companion_files_are_found_in_the_source(source: Path, tmp_path: Path) -> None:
    (source / "vocab.txt").write_text("a\nb\n")
    out = tmp_path / "out"
    convert(source, out, to="flax")
    (out / "vocab.txt").write_text("b\na\n")
    (out / "merges.txt").write_text("")

    def change(values: dict[str, Any]) -> None:
        for name in ("vocab.txt", "merges.txt"):
            digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
            values["companions"][name] = digest

    edit_manifest(out, change)
    assert verify(out).findings == ()
    assert finding_fields(verify(out, source=source).findings) == {
        ("output", "not what the source yields", "vocab.txt", None),
        ("output", "nothing in the source yields this file", "merges.txt", None),
    }


def test_files_that_the_manifest_does_not_list_are_named(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out, to="flax")
    for name in ("README.md", ".gitattributes"):
        (out / name).write_text("")
    found = verify(out)
    assert found.findings == ()
    assert found.foreign == (".gitattributes", "README.md")
    (out / "pytorch_model.bin").write_bytes(b"")
    assert finding_fields(verify(out).findings) == {
        ("output", "the manifest does not list this file", "pytorch_model.bin", None)
    }
