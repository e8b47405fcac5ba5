"""Bad input at the command line: a clear message, exit code 2, no files changed or left behind."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest

from equipoise.cli.main import run
from equipoise.convert import convert, open_checkpoint
from equipoise.convert.containers._shared import slot_file
from equipoise.fixtures.synthetic import write_small_bert, write_tensors
from equipoise.fixtures.torch_files import write_zip

Snapshot = dict[str, tuple[int, int, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """Returns every file and folder with its time and its bytes."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_ino,
            path.lstat().st_mtime_ns if path.is_file() else 0,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a conversion that must be refused; checks that the folder and an output in it are unchanged."""

    def call(source: Path, *texts: str, to: str = "flax", options: tuple[str, ...] = ()) -> str:
        standing = tmp_path / "standing"
        standing.mkdir(exist_ok=True)
        (standing / "precious.txt").write_text("keep me")
        (standing / "repro.json").write_text('{"files": ["precious.txt"]}')
        before = snapshot(tmp_path)
        message = ""
        for output, more in ((tmp_path / "out", ()), (standing, ("--force",))):
            capsys.readouterr()
            code = run(["convert", str(source), str(output), "--to", to, *options, *more])
            caught = capsys.readouterr()
            assert (code, caught.out) == (2, "")
            message = caught.err
            assert message.startswith("error: ")
            for text in texts:
                assert text in message
            assert snapshot(tmp_path) == before
        return message

    return call


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_small_bert(tmp_path / "bert")


def raw_safetensors(folder: Path, header: str, data: bytes = bytes(16)) -> Path:
    """Replaces the weights by the given header and some bytes."""
    text = header.encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


FILES = {
    "pytorch-safetensors": "model.safetensors",
    "pytorch-bin": "pytorch_model.bin",
    "tensorflow-h5": "tf_model.h5",
    "flax-msgpack": "flax_model.msgpack",
}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("part", [0.5, 0.98])
def test_truncated(
    form: str, part: float, bert: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    convert(bert, tmp_path / "made", to=form)
    path = tmp_path / "made" / FILES[form]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    refused(tmp_path / "made", str(path))


def test_truncated_tensorflow_checkpoint(tmp_path: Path, refused: Callable[..., str]) -> None:
    golden = Path(__file__).parent / "containers" / "golden" / "bundle"
    for path in golden.glob("keras.ckpt.*"):
        shutil.copyfile(path, tmp_path / path.name)
    data = tmp_path / "keras.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    refused(tmp_path / "keras.ckpt", "keras.ckpt")


@pytest.mark.parametrize("name", FILES.values())
def test_wrong_magic(name: str, bert: Path, refused: Callable[..., str]) -> None:
    (bert / "model.safetensors").unlink()
    (bert / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(bert, str(bert / name))


def test_an_empty_file(bert: Path, refused: Callable[..., str]) -> None:
    (bert / "model.safetensors").write_bytes(b"")
    refused(bert, "model.safetensors: the file is empty")


def test_an_index_that_names_a_missing_shard(
    bert: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    convert(bert, tmp_path / "made", to="pytorch", max_shard_size=6000)
    (tmp_path / "made" / "model-00002-of-00003.safetensors").unlink()
    text = "the shard 'model-00002-of-00003.safetensors' is missing"
    refused(tmp_path / "made", "model.safetensors.index.json", text)


def test_an_index_that_names_a_file_outside_its_folder(
    bert: Path, refused: Callable[..., str]
) -> None:
    (bert / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(bert, "the index names a file outside its folder", "../../etc/passwd")


ENTRY = '{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}}'
HEADERS = {
    "overlap": ('{"a":' + ENTRY.format(2, 0, 8) + ',"b":' + ENTRY.format(2, 4, 12) + "}", "'b'"),
    "gap": ('{"a":' + ENTRY.format(1, 0, 4) + ',"b":' + ENTRY.format(2, 8, 16) + "}", "'b'"),
    "out of range": ('{"a":' + ENTRY.format(500, 0, 2000) + "}", "expected: "),
    "negative": ('{"a":' + ENTRY.format(4, -8, 8) + "}", "'a'"),
    "shape": ('{"a":' + ENTRY.format(3, 0, 16) + "}", "'a'"),
    "NaN shape": ('{"a":' + ENTRY.format("NaN", 0, 16) + "}", "NaN"),
    "float shape": ('{"a":' + ENTRY.format("4.0", 0, 16) + "}", "'a'"),
    "huge shape": ('{"a":' + ENTRY.format("9" * 30, 0, 16) + "}", "'a'"),
    "duplicate": ('{"a":' + ENTRY.format(4, 0, 16) + ',"a":' + ENTRY.format(4, 0, 16) + "}", "'a'"),
    "climbing": ('{"../../a":' + ENTRY.format(4, 0, 16) + "}", "'..'"),
    "no JSON": ("{nonsense", "not JSON"),
    "nested": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "model.safetensors"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_invalid_safetensors_headers(case: str, bert: Path, refused: Callable[..., str]) -> None:
    header, text = HEADERS[case]
    refused(raw_safetensors(bert, header), "model.safetensors", text)


def test_a_header_longer_than_the_file(bert: Path, refused: Callable[..., str]) -> None:
    (bert / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    refused(bert, "the header's length is wrong")


class _Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_runs_a_command(
    bert: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (bert / "model.safetensors").unlink()
    attack = pickle.dumps({"w": _Attack(tmp_path / "marker")}, 2)
    write_zip(bert / "pytorch_model.bin", attack)
    message = refused(bert, "pytorch_model.bin", "nothing was executed")
    assert "posix" in message or "nt" in message
    assert not (tmp_path / "marker").exists()


def test_hdf5_with_an_external_link(
    bert: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (bert / "model.safetensors").unlink()
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["w"] = np.ones(2, np.float32)
    with h5py.File(bert / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [b"m"]
        group = file.create_group("m")
        group.attrs["weight_names"] = [b"m/w:0"]
        group.create_group("m")["w:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/w")
    refused(bert, "tf_model.h5", "m/w:0")


def nested_msgpack(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + b"\xc0"


BOMBS = {
    "nested": nested_msgpack(200_000),
    "huge map": b"\xdf\xff\xff\xff\xff\xa1a",
    "huge array": msgpack.packb({"a": 0})[:-1] + b"\xdd\xff\xff\xff\xff",
    "huge bytes": msgpack.packb({"a": 0})[:-1] + b"\xc6\xff\xff\xff\xff" + bytes(20),
    "huge shape": msgpack.packb(
        {"a": msgpack.ExtType(1, msgpack.packb(([1 << 40, 1 << 40], "float32", b"")))}
    ),
    "duplicate key": b"\x82\xa1a" + b"\x80" + b"\xa1a" + b"\x80",
    "climbing": msgpack.packb(
        {"..": {"a": msgpack.ExtType(1, msgpack.packb(([1], "float32", bytes(4))))}}
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_msgpack_that_expands(case: str, bert: Path, refused: Callable[..., str]) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "flax_model.msgpack").write_bytes(BOMBS[case])
    refused(bert, "flax_model.msgpack", to="pytorch")


def test_a_config_of_another_architecture(bert: Path, refused: Callable[..., str]) -> None:
    (bert / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    refused(bert, "none of the tensors belongs to the architecture 'gpt2'", "--config")


def test_a_config_of_another_size(bert: Path, refused: Callable[..., str]) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "intermediate_size": 21}))
    name = "'bert.encoder.layer.0.intermediate.dense.weight'"
    refused(
        bert, "6 tensors have another shape than the config says", f"{name} [20, 12] for [21, 12]"
    )
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    name = "'bert.encoder.layer.2.attention.self.query.weight' [12, 12]"
    refused(bert, "16 tensors are missing: the checkpoint is incomplete", f"e.g. {name}")
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    refused(bert, "16 tensors are unknown to BertForMaskedLM: ", "'bert.encoder.layer.1.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"model_type": "quux"}', "unknown architecture: model_type is 'quux'"),
        ('{"model_type": ["bert"]}', "unknown architecture: model_type is None"),
        ('{"model_type": "../bert"}', "unknown architecture"),
        ("{}", "unknown architecture: model_type is None"),
        ("[1]", "is not an object"),
        ("{", "not valid JSON"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ("[" * 100_000, "not valid JSON"),
        ('{"model_type": "bert", "num_hidden_layers": "many"}', "is not a size"),
        ('{"model_type": "bert", "num_hidden_layers": 999999999}', "at most"),
    ],
)
def test_unusable_configs(
    text: str, expected: str, bert: Path, refused: Callable[..., str]
) -> None:
    (bert / "config.json").write_text(text)
    refused(bert, "config.json", expected)


def test_an_unknown_architecture_by_option(bert: Path, refused: Callable[..., str]) -> None:
    refused(bert, "unknown architecture 'quux'", options=("--architecture", "quux"))


def test_an_unknown_target(bert: Path, refused: Callable[..., str]) -> None:
    refused(bert, "unknown format 'onnx'", to="onnx")
    refused(bert, "cannot write 'tensorflow-checkpoint'", to="tensorflow-checkpoint")


def test_no_source(tmp_path: Path, refused: Callable[..., str]) -> None:
    refused(tmp_path / "absent", f"{tmp_path}/absent: there is no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no weights in this folder", "model.safetensors")


def test_a_number_too_large_for_the_dtype(bert: Path, refused: Callable[..., str]) -> None:
    tensors = {name: ref.read() for name, ref in open_checkpoint(bert).items()}
    tensors["bert.embeddings.LayerNorm.bias"][3] = 1e30
    write_tensors(bert / "model.safetensors", tensors)
    text = "1 finite values overflow in float16"
    refused(bert, "bert/embeddings/LayerNorm/bias", text, options=("--dtype", "fp16"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Returns the message of a conversion that must be refused."""
    capsys.readouterr()
    assert run(["convert", *map(str, arguments), "--to", "flax"]) == 2
    return capsys.readouterr().err


def test_invalid_output_paths(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = snapshot(tmp_path)
    for output, text, more in (
        (tmp_path / "full", "the output folder is not empty", ()),
        (tmp_path / "file", "the output path is a file", ("--force",)),
        (tmp_path / "file" / "below", "cannot be written: Not a directory", ()),
        (tmp_path / "file" / "far" / "below", "cannot be written: Not a directory", ()),
        (bert, "the output folder holds the source", ("--force",)),
        (tmp_path, "the output folder holds the source", ("--force",)),
        (bert / "out", "the output folder lies inside the source", ()),
        (bert / "a" / "b", "the output folder lies inside the source", ("--force",)),
    ):
        message = refusal(capsys, bert, output, *more)
        assert str(output) in message
        assert text in message
        assert snapshot(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root cannot write")
def test_no_permission_even_for_root(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    assert "/proc/equipoise/out: cannot be written: " in refusal(
        capsys, bert, "/proc/equipoise/out"
    )
    assert snapshot(tmp_path) == before


def test_no_permission(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def denied(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == ".out.equipoise":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        real(self, *arguments, **options)

    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", denied)
        assert run(["convert", str(bert), str(tmp_path / "new" / "out"), "--to", "flax"]) == 2
    assert snapshot(tmp_path) == before


def test_the_disk_is_too_full_before(
    bert: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(bert, "the disk is too full", "1000 bytes free")


def test_the_disk_becomes_full(
    bert: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = slot_file.SlotFile.write
    left = [20]

    def write(self: Any, name: str, blocks: Any) -> None:
        left[0] -= 1
        if left[0] % 20 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, name, blocks)

    monkeypatch.setattr(slot_file.SlotFile, "write", write)
    refused(bert, "cannot be written: No space left on device", "make room, then run it again")


LIMITED = """
import resource, sys
from equipoise.cli.main import run
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("form", FILES)
def test_a_file_may_not_grow(form: str, bert: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    arguments = ["convert", str(bert), str(tmp_path / "new" / "out"), "--to", form]
    command = [sys.executable, "-c", LIMITED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    # libhdf5 has its own message.
    assert "cannot be written: File too large" in done.stderr or "errno = 27" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(tmp_path) == before


def test_a_source_that_vanishes_while_it_is_read(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(self: Any, name: str, blocks: Any) -> None:
        (bert / "model.safetensors").unlink(missing_ok=True)
        for _ in blocks:
            continue

    monkeypatch.setattr(slot_file.SlotFile, "write", vanish)
    message = refusal(capsys, bert, tmp_path / "out")
    assert f"{bert}/model.safetensors: cannot be read: No such file or directory" in message
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]
