"""What a backend loads: folders that transformers cannot load by themselves are converted; errors name the user's paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from equipoise.convert.core.errors import WorkerError
from equipoise.fixtures.synthetic import write_small_bert
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.sources import name_user_paths, resolve_model


def test_weights_under_another_name_are_converted_first(tmp_path: Path) -> None:
    folder = write_small_bert(tmp_path / "bert")
    (tmp_path / "scratch").mkdir()
    plain = resolve_model(ModelFolder(folder), "pytorch", tmp_path / "scratch")
    assert (plain.path, plain.origin) == (folder, "as given")
    shutil.move(folder / "model.safetensors", folder / "model.fp16.safetensors")
    variant = resolve_model(ModelFolder(folder), "pytorch", tmp_path / "scratch")
    assert variant.path == tmp_path / "scratch" / "pytorch"
    assert variant.origin == "converted from pytorch"


def test_errors_name_the_users_model(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with pytest.raises(WorkerError) as refused, name_user_paths("bert-tf", scratch):
        raise WorkerError(f"cannot load {scratch}/flax/config.json", file=scratch / "flax")
    assert str(scratch) not in str(refused.value)
    assert "cannot load bert-tf (converted to flax)/config.json" in str(refused.value)
