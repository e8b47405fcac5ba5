"""What people hand over is named for what it is, with the one thing to do, by every command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.checkpoints.hub import HubRepository, files_to_download
from equipoise.convert.core.errors import CheckpointError, ContainerError
from equipoise.convert.folders.file_kinds import FILE_KINDS, ZIP_KINDS
from equipoise.convert.folders.folder_kinds import FOLDER_KINDS, Treatment
from equipoise.convert.folders.recognition import recognise_paths
from equipoise.fixtures.synthetic import write_small_bert

FOLDERS = {
    "peft-adapter": (["adapter_config.json", "adapter_model.safetensors"], "--merge-adapter"),
    "npz": (["weights.npz"], "numpy.load('{folder}/weights.npz')"),
    "gguf": (["llama-q4_0.gguf"], "gguf_file='llama-q4_0.gguf'"),
    "diffusers": (
        ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json"],
        "one of its models",
    ),
    "meta-llama": (["consolidated.00.pth", "params.json"], "layout of transformers"),
    "programs": (["onnx/model.onnx"], "equipoise validate MODEL"),
    "incomplete-download": ([".cache/huggingface/download/abc.incomplete"], "download it again"),
}
"""Kind -> the files that show it, and what the message must say to do."""


def make_folder(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"{}" if name.endswith(".json") else b"content")
    return folder


def test_every_refused_kind_has_a_folder_here() -> None:
    refused = {kind.name for kind in FOLDER_KINDS if kind.treatment is Treatment.REFUSED}
    assert refused == FOLDERS.keys()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    names, advice = FOLDERS[name]
    folder = make_folder(tmp_path / "folder", names)
    kind = next(one for one in FOLDER_KINDS if one.name == name)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(folder)
    text = str(refused.value)
    assert kind.what in text
    assert advice.format(folder=folder) in text
    assert "another model's" not in text


COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "inspect": lambda folder, out: ("inspect", folder),
    "convert": lambda folder, out: ("convert", folder, out, "--to", "flax"),
    "validate": lambda folder, out: ("validate", folder),
    "export": lambda folder, out: ("export", folder, out, "--to", "onnx"),
    "run": lambda folder, out: ("run", "fill-mask", folder, "a [MASK]"),
    "diff": lambda folder, out: ("diff", folder, folder),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("with_config", [True, False], ids=["config", "bare"])
def test_every_command_says_the_same(
    command: str, with_config: bool, cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "folder", FOLDERS["diffusers"][0])
    if not with_config:
        (folder / "config.json").unlink()
    outcome = cli(*COMMANDS[command](folder, tmp_path / "out"))
    assert outcome.code == 2
    assert "a pipeline of diffusers" in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_adapter_beside_its_base_is_refused(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert")
    base = {"base_model_name_or_path": "google/base"}
    (folder / "adapter_config.json").write_text(json.dumps(base))
    with pytest.raises(
        CheckpointError,
        match=r"(?s)a PEFT adapter lies here.*merge it into its base: `equipoise convert .*bert",
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize(("base", "named"), [("google/base", "google/base"), (None, "BASE")])
def test_an_adapter_alone_names_its_base(base: str | None, named: str, tmp_path: Path) -> None:
    """The command that is proposed converts the base, not the adapter."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError,
        match=rf"(?s)a PEFT adapter: it is not read.*convert {named} OUTPUT .*--merge-adapter {folder}`",
    ):
        open_checkpoint(folder)


def test_a_pipeline_names_the_models_in_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", ["model_index.json", "vae/config.json"])
    shutil.copytree(write_small_bert(tmp_path / "bert"), folder / "text_encoder")
    with pytest.raises(CheckpointError, match=f"one of its models: {folder}/text_encoder$"):
        open_checkpoint(folder)


def test_folders_below_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_small_bert(tmp_path / "models" / "first")
    with pytest.raises(CheckpointError, match=f"give a folder below: {tmp_path}/models/first"):
        open_checkpoint(tmp_path / "models")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing: an empty folder"):
        open_checkpoint(tmp_path)


HEADS = {
    "git-lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n",
    "git-annex-pointer": b"/annex/objects/SHA256E-s12--aa.bin\n",
    "web-page": b"<!DOCTYPE html>\n<html><head>",
    "gguf-file": b"GGUF\3\0\0\0",
    "compressed": b"\x1f\x8b\x08\0\0\0",
    "numpy-array": b"\x93NUMPY\1\0",
}


def test_every_kind_of_file_has_a_head_here() -> None:
    assert {kind.name for kind in FILE_KINDS} == HEADS.keys()


@pytest.mark.parametrize("kind", FILE_KINDS, ids=lambda kind: str(kind.name))
@pytest.mark.parametrize(
    "file", ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"]
)
def test_a_file_is_named_for_what_it_is(kind: Any, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(HEADS[kind.name])
    with pytest.raises(ContainerError) as refused:
        open_checkpoint(tmp_path)
    assert kind.what in str(refused.value)
    assert f"{tmp_path / file}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "first"),
    [("npz-file", "arr_0.npy"), ("zipped-folder", "bert/")],
)
def test_an_archive_is_named_for_what_it_holds(name: str, first: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr(first, b"x")
    kind = next(one for one in ZIP_KINDS if one.name == name)
    with pytest.raises(ContainerError, match=f"{kind.what[:12]}"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(("content", "text"), [(b"", "the file is empty"), (bytes(900), "zeros")])
def test_a_download_that_broke(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ContainerError, match=f"(?s){text}.*download it again"):
        open_checkpoint(tmp_path)


def test_a_repository_on_the_hub_is_named_too() -> None:
    with pytest.raises(CheckpointError, match="a PEFT adapter"):
        files_to_download(["adapter_config.json"], None, HubRepository("owner/name"))
    assert recognise_paths(["README.md"]) is None


def test_the_advice_for_npz_works(tmp_path: Path) -> None:
    """The command in the message is run as it stands, and its output converts."""
    source = write_small_bert(tmp_path / "bert")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    np.savez(source / "weights.npz", **tensors)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(source)
    code = str(refused.value.hint).partition('python -c "')[2].rpartition('"')[0]
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True)
    (source / "weights.npz").unlink()
    convert(source, tmp_path / "out", to="flax")


def test_weights_whose_first_bytes_spell_another_kind_are_read(tmp_path: Path) -> None:
    """The length of this safetensors header is 0x8b1f, which begins as a gzip file does."""
    length = 0x8B1F
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + b"x")
    assert path.read_bytes().startswith(b"\x1f\x8b")
    assert list(open_checkpoint(path)) == ["a"]
