"""What Equipoise made is replaced; what is the user's is refused by name, and stays as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert import convert
from equipoise.convert.core.errors import OutputError
from equipoise.convert.files.output_file import write_output_file
from equipoise.convert.files.output_folder import replace_folder
from equipoise.convert.files.ownership import (
    FILE_MARK,
    check_replaceable_folder,
    hash_entries,
    list_entries,
)
from equipoise.convert.files.staging import Staging
from equipoise.fixtures.synthetic import write_small_bert

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of no bytes, as `sha256sum /dev/null` prints it."""


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Returns every file and link below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    convert(write_small_bert(tmp_path / "bert"), tmp_path / "out", to="flax")
    return tmp_path / "out"


def add_file(folder: Path) -> str:
    (folder / "thesis.txt").write_text("years of work")
    return "thesis.txt"


def add_repository(folder: Path) -> str:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    return ".git/HEAD"


def add_link(folder: Path) -> str:
    (folder / "data").symlink_to("/tmp")
    return "data"


def add_empty_folder(folder: Path) -> str:
    (folder / "plans").mkdir()
    return "plans/"


def train_weights(folder: Path) -> str:
    """Changes a byte, as training in place does: size and name stay."""
    path = folder / "flax_model.msgpack"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return "flax_model.msgpack (changed since it was written)"


def edit_config(folder: Path) -> str:
    with open(folder / "config.json", "a") as file:
        file.write("\n")
    return "config.json (changed since it was written)"


def replace_by_pipe(folder: Path) -> str:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    return "config.json (changed since it was written)"


def replace_by_dangling_link(folder: Path) -> str:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("gone")
    return "config.json (changed since it was written)"


def remove_manifest(folder: Path) -> str:
    (folder / "equipoise.json").unlink()
    return "config.json, flax_model.msgpack"


def damage_manifest(folder: Path) -> str:
    (folder / "equipoise.json").write_text('{"target": {"files": 3}, "companions": {}}')
    return "config.json, equipoise.json, flax_model.msgpack"


@pytest.mark.parametrize(
    "change",
    [
        add_file,
        add_repository,
        add_link,
        add_empty_folder,
        train_weights,
        edit_config,
        replace_by_pipe,
        replace_by_dangling_link,
        remove_manifest,
        damage_manifest,
    ],
)
def test_a_folder_with_what_is_the_users_is_refused(
    change: Callable[[Path], str], cli: Callable[..., Any], converted: Path, tmp_path: Path
) -> None:
    name = change(converted)
    before = snapshot(tmp_path)
    outcome = cli("convert", tmp_path / "bert", converted, "--to", "flax", "--force")
    assert outcome.code == 2
    assert f"found:    {name}" in outcome.err
    assert snapshot(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "out"}


def test_a_copied_index_makes_no_file_its_own(tmp_path: Path, converted: Path) -> None:
    """``equipoise.json`` that was copied beside files of the same names is no leave to replace them."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "equipoise.json").write_bytes((converted / "equipoise.json").read_bytes())
    (mine / "config.json").write_text("{}")
    with pytest.raises(OutputError, match=r"config\.json \(changed") as raised:
        convert(tmp_path / "bert", mine, to="flax", force=True)
    assert raised.value.hint == "choose another folder, or move these away"
    (mine / "config.json").unlink()
    convert(tmp_path / "bert", mine, to="flax", force=True)


def test_weights_that_are_trained_while_the_output_is_written_are_kept(
    converted: Path, tmp_path: Path
) -> None:
    def train(done: int, total: int, name: str) -> None:
        (converted / "flax_model.msgpack").write_text("trained")

    with pytest.raises(OutputError, match=r"flax_model\.msgpack \(changed"):
        convert(tmp_path / "bert", converted, to="flax", force=True, progress=train)
    assert (converted / "flax_model.msgpack").read_text() == "trained"


@pytest.mark.parametrize("recorded", [{"size": 1, "sha256": EMPTY}, {"size": 0, "sha256": "00"}])
def test_an_index_with_sizes(recorded: dict[str, object], tmp_path: Path) -> None:
    """That of an export; its companions are listed twice, once without a hash."""
    for files, is_intact in ({"w": {"size": 0, "sha256": EMPTY}}, True), ({"w": recorded}, False):
        index = {"files": files, "companions": ["w"]}
        (tmp_path / "artifact.json").write_text(json.dumps(index))
        (tmp_path / "w").touch()
        if is_intact:
            check_replaceable_folder(tmp_path)
            continue
        with pytest.raises(OutputError, match=r"found: +w \(changed"):
            check_replaceable_folder(tmp_path)


@pytest.mark.parametrize("index", ["golden.json", "repro.json"])
def test_a_changed_file_of_a_golden_is_the_users(index: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "single.truth.npz").write_bytes(b"as it was written")
    (folder / index).write_text(json.dumps({"files": hash_entries(folder)}))
    check_replaceable_folder(folder)
    (folder / "single.truth.npz").write_bytes(b"as it was changed")
    with pytest.raises(OutputError) as refused:
        check_replaceable_folder(folder)
    assert "single.truth.npz (changed since it was written)" in str(refused.value)


def test_many_names_are_cut(cli: Callable[..., Any], tmp_path: Path) -> None:
    bert = write_small_bert(tmp_path / "bert")
    (tmp_path / "out").mkdir()
    for number in range(50):
        (tmp_path / "out" / f"{number:02d}").touch()
    outcome = cli("convert", bert, tmp_path / "out", "--to", "flax", "--force")
    assert outcome.code == 2
    assert "found:    00, 01, 02 and more\n" in outcome.err


def test_a_file_that_comes_while_the_output_is_written_is_kept(
    converted: Path, tmp_path: Path
) -> None:
    before = snapshot(converted)

    def add(done: int, total: int, name: str) -> None:
        (converted / "late.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"late\.txt"):
        convert(tmp_path / "bert", converted, to="flax", force=True, progress=add)
    assert snapshot(converted) == {**before, "late.txt": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "out"}


@pytest.mark.parametrize("name", [".out.partial", ".out.replaced", ".out.equipoise"])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_hidden_names_of_the_user_are_not_touched(
    kind: str, name: str, cli: Callable[..., Any], converted: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / name
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").write_text("years of work")
    if kind == "folder":
        hidden.mkdir()
        (hidden / "thesis.txt").write_text("years of work")
    elif kind == "file":
        hidden.write_text("years of work")
    else:
        hidden.symlink_to("elsewhere")
    before = snapshot(tmp_path)
    outcome = cli("convert", tmp_path / "bert", converted, "--to", "flax", "--force")
    assert snapshot(tmp_path) == before
    if name == ".out.equipoise":
        assert outcome.code == 2
        assert f"{hidden}: what lies where the output is built was not made by Equipoise" in (
            outcome.err
        )
    else:
        assert outcome.code == 0


def test_an_output_that_is_a_link(cli: Callable[..., Any], converted: Path, tmp_path: Path) -> None:
    """The folder that it leads to is replaced, and the link stays; where that is the source, it is refused."""
    link = tmp_path / "link"
    link.symlink_to("out")
    assert cli("convert", tmp_path / "bert", link, "--to", "flax", "--dtype", "bf16").code == 2
    done = cli("convert", tmp_path / "bert", link, "--to", "flax", "--dtype", "bf16", "--force")
    assert done.code == 0
    assert os.readlink(link) == "out"
    assert json.loads((converted / "equipoise.json").read_text())["dtype"] == "bf16"
    link.unlink()
    link.symlink_to("new")
    assert cli("convert", tmp_path / "bert", link, "--to", "flax").code == 0
    assert (tmp_path / "new" / "flax_model.msgpack").is_file()
    link.unlink()
    link.symlink_to("bert")
    outcome = cli("convert", tmp_path / "bert", link, "--to", "flax", "--force")
    assert outcome.code == 2
    assert "the output folder holds the source" in outcome.err


def test_the_hub_cache_is_not_replaced(cli: Callable[..., Any], tmp_path: Path) -> None:
    """``snapshots/REVISION/*`` are links to ``../../blobs/*``: neither that folder nor one around or in it is written."""
    bert = write_small_bert(tmp_path / "bert")
    repository = tmp_path / "hub" / "models--ada--bert"
    snapshot_folder = repository / "snapshots" / "abc"
    snapshot_folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in bert.iterdir():
        path.rename(repository / "blobs" / f"0{path.name}")
        (snapshot_folder / path.name).symlink_to(f"../../blobs/0{path.name}")
    # Even where the cache looks as if Equipoise had made it.
    names = [path.name for path in (repository / "blobs").iterdir()]
    (repository / "blobs" / "repro.json").write_text(json.dumps({"files": names}))
    before = snapshot(tmp_path)
    places = [snapshot_folder, repository / "blobs", repository, repository / "blobs" / "out"]
    for output in places:
        outcome = cli("convert", snapshot_folder, output, "--to", "flax", "--force")
        assert outcome.code == 2
        assert "the source" in outcome.err
        assert snapshot(tmp_path) == before
    assert cli("convert", snapshot_folder, tmp_path / "out", "--to", "flax").code == 0


def test_weights_that_lie_in_the_output(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A file of weights that is given by a link is not replaced where it really lies."""
    bert = write_small_bert(tmp_path / "bert")
    (tmp_path / "link.safetensors").symlink_to(bert / "model.safetensors")
    (bert / "repro.json").write_text('{"files": ["model.safetensors", "config.json"]}')
    config = ("--config", str(bert / "config.json"))
    arguments = (tmp_path / "link.safetensors", bert, "--to", "flax", "--force", *config)
    outcome = cli("convert", *arguments)
    assert outcome.code == 2
    assert "the output folder holds the source" in outcome.err
    assert (bert / "model.safetensors").is_file()


def test_names_that_no_folder_can_have(cli: Callable[..., Any], tmp_path: Path) -> None:
    bert = write_small_bert(tmp_path / "bert")
    outcome = cli("convert", bert, "/", "--to", "flax", "--force")
    assert outcome.code == 2
    assert "the output is the root of the file system" in outcome.err
    for name in ("x" * 5000, "x" * 250):
        outcome = cli("convert", bert, tmp_path / name, "--to", "flax", "--force")
        assert outcome.code == 2
        assert "cannot be written: File name too long" in outcome.err
    assert list(tmp_path.iterdir()) == [bert]


def test_files_of_the_user_are_not_replaced(tmp_path: Path) -> None:
    mine, ours, empty = tmp_path / "mine.html", tmp_path / "ours.md", tmp_path / "empty"
    mine.write_text("<h1>my thesis on equipoise, my generator</h1>")
    empty.touch()
    with pytest.raises(OutputError, match="Equipoise did not write it"):
        write_output_file(mine, f"<!-- {FILE_MARK} -->")
    with pytest.raises(OutputError, match="the output path is a folder"):
        write_output_file(tmp_path, "")
    assert mine.read_text().startswith("<h1>my thesis")
    for path in (ours, empty):
        for text in ("one", "two"):
            write_output_file(path, f"<!-- {FILE_MARK} -->{text}")
        assert path.read_text().endswith("two")
    assert {path.name for path in tmp_path.iterdir()} == {"mine.html", "ours.md", "empty"}


def test_a_neighbour_of_a_report_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "report.json.new").write_text("mine")
    (tmp_path / "link.json").symlink_to("report.json")
    write_output_file(tmp_path / "report.json", '{"generator": "equipoise"}')
    write_output_file(tmp_path / "link.json", '{"generator": "equipoise", "schema": 2}')
    assert (tmp_path / "report.json.new").read_text() == "mine"
    assert os.readlink(tmp_path / "link.json") == "report.json"
    assert json.loads((tmp_path / "report.json").read_text())["schema"] == 2


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output_file(pipe, "text")
        assert os.read(descriptor, 10) == b"text"
    finally:
        os.close(descriptor)
    write_output_file(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    assert pipe.is_fifo()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with replace_folder(tmp_path / "out") as new:
            (new / "a").mkdir()
            (new / "a" / text).write_text(text)
            (new / "empty").mkdir()
            files = list_entries(new)
            (new / "repro.json").write_text(json.dumps({"files": files}))
    assert list_entries(tmp_path / "out") == ["repro.json", "a/two", "empty/"]
    cache = tmp_path / "out" / "__pycache__"
    cache.mkdir()
    (cache / "repro.cpython-311.pyc").touch()
    with pytest.raises(OutputError), replace_folder(tmp_path / "out") as new:
        (new / "half").joinpath("nothing").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with replace_folder(tmp_path / "out"):
        pass
    assert list_entries(tmp_path / "out") == []


def test_a_folder_that_was_moved_away_comes_back(tmp_path: Path) -> None:
    """A run that was killed between its two renames leaves the old folder in the hidden one."""
    with replace_folder(tmp_path / "out") as new:
        (new / "repro.json").write_text('{"files": []}')
    hidden = tmp_path / ".out.equipoise"
    hidden.mkdir()
    (hidden / "equipoise.progress.json").write_text("{}")
    (tmp_path / "out").rename(hidden / "old")
    with (
        pytest.raises(OutputError, match="the output folder is not empty"),
        replace_folder(tmp_path / "out", force=False),
    ):
        pass
    assert list_entries(tmp_path / "out") == ["repro.json"]
    with replace_folder(tmp_path / "out") as new:
        (new / "new").touch()
    assert list_entries(tmp_path / "out") == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("removed", range(4))
def test_a_kill_while_the_hidden_folder_goes(
    removed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it is left, the next run takes it over."""
    unlink, left = Path.unlink, [removed]

    class KilledError(BaseException):
        pass

    def unlink_or_die(path: Path, missing_ok: bool = False) -> None:
        if "equipoise.progress." in path.name:
            if not left[0]:
                raise KilledError
            left[0] -= 1
        unlink(path, missing_ok)

    staging = Staging(tmp_path / "out")
    staging.open()
    for name in "abz":
        staging.save_record(name, {})
    monkeypatch.setattr(Path, "unlink", unlink_or_die)
    with pytest.raises(KilledError):
        staging.swap()
    staging.release()
    monkeypatch.undo()
    assert (tmp_path / ".out.equipoise").is_dir()
    with replace_folder(tmp_path / "out") as new:
        (new / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("filler", ["before", "between", "after"])
def test_a_large_index(filler: str, tmp_path: Path) -> None:
    """The tables of an index are found wherever they stand in it."""
    tensors = {f'a "{index}" \\ é': {"blake3": "0" * 64, "shape": [index]} for index in range(9000)}
    target, companions = {"format": "x", "files": {"w.bin": EMPTY}}, {"vocab.txt": EMPTY}
    values = {
        "before": {"tensors": tensors, "target": target, "companions": companions},
        "between": {"target": target, "tensors": tensors, "companions": companions},
        "after": {"target": target, "companions": companions, "tensors": tensors},
    }[filler]
    text = json.dumps(values, ensure_ascii=False, indent=1)
    (tmp_path / "equipoise.json").write_text(text, encoding="utf-8")
    for name in ("w.bin", "vocab.txt"):
        (tmp_path / name).write_text("")
    check_replaceable_folder(tmp_path)
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(OutputError, match=r"found: +thesis\.txt"):
        check_replaceable_folder(tmp_path)


def test_an_index_without_its_tables_lists_nothing(tmp_path: Path) -> None:
    for text in ('{"target": {"files": {"w.bin": "00"}}}', '{"target": {"files": ', "{", "[]", ""):
        (tmp_path / "equipoise.json").write_text(text)
        with pytest.raises(OutputError, match="did not make"):
            check_replaceable_folder(tmp_path)
