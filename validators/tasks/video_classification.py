"""Video classification: labels of a video."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import Batch, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import ClassificationTask
from equipoise.validators.tasks.shared.video import preprocess_videos, video_cases, video_samples


class VideoClassification(ClassificationTask):
    """Models that classify frames of a video."""

    name = "video-classification"
    auto_class = "AutoModelForVideoClassification"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a video classification class."""
        return model.class_name.endswith("ForVideoClassification")

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic videos."""
        return video_samples(model)

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`video_cases`."""
        return video_cases(samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the frames; the option ``frame_sampling_rate`` of the case is the distance between them."""
        return Batch(case, preprocess_videos(model, case))

    run = run_single_pass


TASK = VideoClassification()
