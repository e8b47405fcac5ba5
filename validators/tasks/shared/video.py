"""Helpers of tasks on videos: synthetic samples and pixel values of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Arrays, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.media import open_frames
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.tasks.shared.images import SYNTHETIC_SIZES, pad_and_stack, synthetic_image


def video_samples(model: ModelFolder) -> list[Sample]:
    """Returns three videos of different sizes and lengths, in which an image moves to the right."""
    count = _num_frames(model)
    return [
        {
            "video": [
                np.roll(synthetic_image(index), 2 * time, axis=1) for time in range(count + index)
            ]
        }
        for index in range(len(SYNTHETIC_SIZES))
    ]


def video_cases(samples: Sequence[Sample]) -> list[Case]:
    """Returns cases of one and three videos."""
    return [Case("single", (samples[0],)), Case("batch", take_cyclic(samples, 3))]


def preprocess_videos(model: ModelFolder, case: Case) -> Arrays:
    """Returns the pixel values of as many frames of each video as the config says, from its start."""
    rate = int(case.options.get("frame_sampling_rate") or 1)
    count = int(case.options.get("num_frames") or _num_frames(model))
    videos = []
    for sample in case.samples:
        frames = open_frames(sample["frames"] if "frames" in sample else sample["video"])
        indices = np.linspace(0, count * rate - 1, num=count, dtype=np.int64)
        if indices[-1] >= len(frames):
            raise InputError(
                "the video is too short", expected=int(indices[-1]) + 1, found=len(frames)
            )
        selected = [frames[index] for index in indices.tolist()]
        videos.append(model.image_processor(selected, return_tensors="np"))
    return {
        name: pad_and_stack(np.concatenate([np.asarray(video[name]) for video in videos]))
        for name in videos[0]
    }


def _num_frames(model: ModelFolder) -> int:
    return int(model.config.get("num_frames", 8))
