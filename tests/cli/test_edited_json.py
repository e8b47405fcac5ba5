"""Values of JSON files are replaced one by one: a command refuses the file or works, and nothing is taken for a defect."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.cli.main import run
from equipoise.convert.core.errors import EquipoiseError
from equipoise.fixtures.synthetic import write_small_bert
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task, load_samples

WRONG_VALUES: tuple[Any, ...] = (
    None, [], {}, "", -1, 3.5, True, "x" * 5000, [[]], {"a": None}, "\x1b[2J", "../../x", 2**70,
)  # fmt: skip
TASKS = Path(__file__).parents[2] / "fixtures" / "tasks"


def positions(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the paths of all values but for those of long tables, of which it takes the first."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[: 2 if path else None]:
            yield from positions(value[key], (*path, key))
    if isinstance(value, list):
        for index in range(min(2, len(value))):
            yield from positions(value[index], (*path, index))


def edits(
    document: Any, wrong_values: tuple[Any, ...] = WRONG_VALUES
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields the document with each wrong value at each position."""
    for path in positions(document):
        for wrong in wrong_values:
            edited = {"": copy.deepcopy(document)}
            holder: Any = edited
            for key in ("", *path)[:-1]:
                holder = holder[key]
            holder[("", *path)[-1]] = wrong
            yield path, edited[""]


def test_a_wrong_value_in_a_manifest_is_no_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_small_bert(tmp_path / "source")
    assert run(["convert", str(source), str(tmp_path / "out"), "--to", "pytorch"]) == 0
    manifest = tmp_path / "out" / "equipoise.json"
    document = json.loads(manifest.read_text())
    codes: Counter[int] = Counter()
    passed: set[Any] = set()
    for path, edited in edits(document):
        manifest.write_text(json.dumps(edited))
        code = run(["verify", str(tmp_path / "out"), "--source", str(source)])
        codes[code] += 1
        if code == 0 and edited != document:
            passed.add(path[0])
    assert codes.keys() == {0, 1, 2}, capsys.readouterr().err
    assert codes[2] > 300
    remarks = {"versions", "notes", "tied", "computed", "left_out", "allowed", "options"}
    assert passed <= remarks | {"architecture", "source"}  # source.container: the files decide


def test_a_wrong_value_in_an_index_of_shards_is_no_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_small_bert(tmp_path / "source")
    out = tmp_path / "out"
    options = ["--to", "pytorch", "--max-shard-size", "6000"]
    assert run(["convert", str(source), str(out), *options]) == 0
    index = out / "model.safetensors.index.json"
    for path, edited in edits(json.loads(index.read_text())):
        index.write_text(json.dumps(edited))
        code = run(["inspect", str(out)])
        assert code == (2 if path[:1] != ("metadata",) else 0), (path, capsys.readouterr().err)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_wrong_value_in_a_config_is_no_defect(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(TASKS.parent / "checkpoints" / "sentiment", source)
    for path, edited in edits(json.loads((source / name).read_text()), WRONG_VALUES[:5]):
        (source / name).write_text(json.dumps(edited))
        code = run(["convert", str(source), str(tmp_path / "out"), "--to", "flax", "--dry-run"])
        assert code in (0, 2), (path, capsys.readouterr().err)


@pytest.mark.transformers
@pytest.mark.parametrize(
    "name",
    [
        *("text-classification", "question-answering", "image-classification", "depth-estimation"),
        *("automatic-speech-recognition-ctc", "video-classification", "image-text-to-text"),
        *("document-question-answering", "table-question-answering", "zero-shot-classification"),
    ],
)
def test_a_wrong_value_in_samples_is_no_defect(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TASKS / name, folder)
    model = ModelFolder(folder)
    task = infer_task(model)
    file = folder / "samples.json"
    refused = 0
    for _, edited in edits(json.loads(file.read_text())[:1]):
        file.write_text(json.dumps(edited))
        try:
            task.encode(model, task.cases(model, load_samples(task, model))[0])
        except EquipoiseError:
            refused += 1
    assert refused > 30
