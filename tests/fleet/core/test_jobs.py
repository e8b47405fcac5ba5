"""Jobs and lists of jobs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.convert.checkpoints.hub import parse_hub_id
from equipoise.convert.core.errors import InputError
from equipoise.fleet.core.job_list import read_jobs, source_identity
from equipoise.fleet.core.jobs import Job, installed_software, of_shard, option_arguments
from equipoise.fleet.core.store import ResultStore

JOB = Job("convert", "models/bert", ("--to", "flax"), "digest", {"equipoise": "1"})


def test_key_is_of_all_that_decides_the_result() -> None:
    others = [
        replace(JOB, command="export"),
        replace(JOB, source="models/gpt2"),
        replace(JOB, arguments=("--to", "tensorflow")),
        replace(JOB, identity="another"),
        replace(JOB, software={"equipoise": "2"}),
    ]
    assert len({one.key for one in (JOB, *others)}) == 6
    assert Job.from_dict(json.loads(json.dumps(JOB.as_dict()))).key == JOB.key


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("bert", "bert"),
        ("hf://google/vit@main", "google--vit_main"),
        ("/data/a b/c:d/", "a_b--c_d"),
        ("/", "model"),
        ("x/" + "y" * 200, "y" * 80),
        ("./bert", "bert"),
    ],
)
def test_name_is_a_file_name(source: str, name: str) -> None:
    assert Job("convert", source).name == name


def test_shards_have_every_job_once() -> None:
    jobs = [replace(JOB, source=f"models/{index}") for index in range(101)]
    parts = [of_shard(jobs, (number, 3)) for number in (1, 2, 3)]
    assert sorted(job.source for part in parts for job in part) == sorted(j.source for j in jobs)
    assert min(map(len, parts)) > 20
    assert of_shard(jobs, None) == jobs


def test_versions_of_what_decides() -> None:
    assert set(installed_software("convert")) == {"equipoise"}
    assert {"equipoise", "onnxscript"} <= set(installed_software("export")) | {"onnxscript"}


def test_list_of_lines(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    lines = '# a comment\n\nbert\norg/on-the-hub\nbert\n{"source": "bert", "options": {"dtype": "fp16"}}\n'
    (tmp_path / "list.jsonl").write_text(lines)
    jobs = read_jobs("convert", str(tmp_path / "list.jsonl"), ["--to", "flax"])
    assert [(job.source, job.arguments) for job in jobs] == [
        (str(tmp_path / "bert"), ("--to", "flax")),
        ("org/on-the-hub", ("--to", "flax")),
        (str(tmp_path / "bert"), ("--to", "flax", "--dtype", "fp16")),
    ]


def test_artifacts_come_first(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    line = {"source": "org/name", "artifacts": ["onnx"], "options": {"cases": "single"}}
    (tmp_path / "list").write_text(json.dumps(line))
    (job,) = read_jobs("validate", str(tmp_path / "list"))
    assert job.arguments == (str(tmp_path / "onnx"), "--cases", "single")


def test_folder_of_models(tmp_path: Path) -> None:
    for name in ("bert", "google/t5", ".hidden", "notes", "deep/er/than"):
        (tmp_path / name).mkdir(parents=True)
        if name != "notes":
            (tmp_path / name / "config.json").write_text("{}")
    jobs = read_jobs("convert", str(tmp_path))
    assert [job.source for job in jobs] == [str(tmp_path / one) for one in ("bert", "google/t5")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no job"),
        ("{", "line 1 is not JSON"),
        ("bert\n{}", "line 2 names no source"),
        ('{"source": 5}', "names no source"),
        ('{"source": "x", "option": {}}', "unknown fields"),
        ('{"source": "x", "options": {"to": {"a": 1}}}', "no such value"),
        ('{"source": "x", "options": ["x"]}', "options of line 1 are no object"),
        ('{"source": "x", "artifacts": "abc"}', "artifacts of line 1 are no list"),
        ("bert\n--help", "line 2 has an option where a path belongs"),
        ('{"source": "x", "artifacts": ["-o"]}', "has an option where a path belongs"),
    ],
)
def test_bad_lists(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(InputError, match=message):
        read_jobs("convert", str(tmp_path / "list"))


def test_a_local_folder_never_becomes_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``models/bert`` could be an id of the Hub: of a folder that is here it is a path, also when it is gone later, or published."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "bert").mkdir(parents=True)
    (tmp_path / "models" / "bert" / "config.json").write_text("{}")
    (tmp_path / "list").write_text("\ufeffmodels/bert\nowner/absent\n")
    for job_list in ("models", "list"):
        found = read_jobs("convert", job_list)[0].source
        assert found == "./models/bert"
        assert parse_hub_id(found) is None
    assert read_jobs("convert", "list")[1].source == "owner/absent"


def test_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is no text"):
        read_jobs("convert", str(tmp_path / "list"))


def test_identity_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    first = source_identity(str(tmp_path))
    os.utime(tmp_path / "a", ns=(1, 1))
    second = source_identity(str(tmp_path))
    (tmp_path / "b").write_text("")
    assert len({first, second, source_identity(str(tmp_path)), source_identity("org/name")}) == 4


def test_options_that_are_off() -> None:
    assert option_arguments({"force": False, "batch": 2, "x": []}) == ["--batch", "2"]


def test_identity_changes_with_the_artifacts(tmp_path: Path) -> None:
    """A program that was exported again is validated again."""
    for name in ("model", "program"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("1")
    (tmp_path / "list").write_text('{"source": "model", "artifacts": ["program"]}')
    (first,) = read_jobs("validate", str(tmp_path / "list"))
    (tmp_path / "program" / "file").write_text("22")
    (second,) = read_jobs("validate", str(tmp_path / "list"))
    assert first.key != second.key


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Linux allows any bytes; the job has a key and is stored."""
    folder = tmp_path / "mod\udcff"
    folder.mkdir()
    job = Job("convert", str(folder), (), source_identity(str(folder)))
    store = ResultStore.create(tmp_path / "out")
    store.add_jobs([job])
    assert list(store.jobs()) == [(job.key, job)]
