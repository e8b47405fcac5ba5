"""Random preprocessing is repeatable and leaves the global random generators untouched."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.fixtures.modern.folder import all_recipes, make_folder
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.seeding import fixed_seed
from equipoise.validators.tasks.base import find_task, load_samples


def test_random_numbers_repeat_and_generators_are_untouched() -> None:
    np.random.seed(7)
    random.seed(7)
    expected = np.random.randint(1 << 30), random.randrange(1 << 30)
    np.random.seed(7)
    random.seed(7)
    numbers = []
    for _ in range(2):
        with fixed_seed():
            numbers.append((np.random.randint(1 << 30), random.randrange(1 << 30)))
    assert numbers[0] == numbers[1] != expected
    assert (np.random.randint(1 << 30), random.randrange(1 << 30)) == expected


def test_generators_are_restored_after_an_error() -> None:
    np.random.seed(7)
    expected = np.random.randint(1 << 30)
    np.random.seed(7)
    with pytest.raises(ZeroDivisionError), fixed_seed():
        np.random.randint(2) / 0
    assert np.random.randint(1 << 30) == expected


@pytest.mark.transformers
@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_long_audio_is_cropped_at_the_same_position(truncation: str, tmp_path: Path) -> None:
    """CLAP's extractor crops at random: without a seed, two runs of one model disagree."""
    pytest.importorskip("torch")
    from transformers import ClapFeatureExtractor

    make_folder(all_recipes()["clap zero-shot-audio-classification"], tmp_path / "model")
    model = ModelFolder(tmp_path / "model")
    options = {**model.feature_extractor.to_dict(), "truncation": truncation, "feature_size": 64}
    model.feature_extractor = ClapFeatureExtractor(**options)
    task = find_task("zero-shot-audio-classification")
    case = task.cases(model, load_samples(task, model))[1]
    first, second = (task.encode(model, case).arrays["input_features"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert any(not np.array_equal(first, other) for other in unseeded(model, case, 8))


def unseeded(model: ModelFolder, case: Any, times: int) -> list[Any]:
    """Returns what the extractor itself gives in repeated calls."""
    extractor = model.feature_extractor
    audio = [sample["audio"]["array"] for sample in case.samples]
    rate = extractor.sampling_rate
    calls = (extractor(audio, sampling_rate=rate, return_tensors="np") for _ in range(times))
    return [features["input_features"] for features in calls]
