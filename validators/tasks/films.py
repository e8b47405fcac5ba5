"""What tasks on films share: drawn samples and frames as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.media import open_frames
from equipoise.validators.model import ModelFolder
from equipoise.validators.runner import Arrays
from equipoise.validators.tasks.base import Case, Sample, cycle
from equipoise.validators.tasks.vision import SIZES, drawn, stacked


def film_samples(model: ModelFolder) -> list[Sample]:
    """Three films of unequal size and length; the picture moves to the right."""
    count = _frames(model)
    return [
        {"video": [np.roll(drawn(index), 2 * time, axis=1) for time in range(count + index)]}
        for index in range(len(SIZES))
    ]


def film_cases(samples: Sequence[Sample]) -> list[Case]:
    """One film and three."""
    return [Case("single", (samples[0],)), Case("batch", cycle(samples, 3))]


def film_pixels(model: ModelFolder, case: Case) -> Arrays:
    """As many frames of each film as the config says, from its start."""
    rate = int(case.options.get("frame_sampling_rate", 1))
    made = []
    for sample in case.samples:
        frames = open_frames(sample.get("video", sample.get("frames")))
        places = np.linspace(0, _frames(model) * rate - 1, num=_frames(model), dtype=np.int64)
        if places[-1] >= len(frames):
            raise InputError(
                "the film is too short", expected=int(places[-1]) + 1, found=len(frames)
            )
        chosen = [frames[place] for place in places.tolist()]
        made.append(model.image_processor(chosen, return_tensors="np"))
    return {name: stacked(np.concatenate([np.asarray(m[name]) for m in made])) for name in made[0]}


def _frames(model: ModelFolder) -> int:
    return int(model.config.get("num_frames", 8))
