"""Video classification: labels of a film."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.validators.core.types import Answer, Arrays, Batch, CallOption, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import DEFAULT_TOP_K, classify, label_decisions
from equipoise.validators.tasks.shared.video import preprocess_videos, video_cases, video_samples


class VideoClassification:
    """Models on frames."""

    name = "video-classification"
    aliases = ()
    auto_class = "AutoModelForVideoClassification"

    def suits(self, model: ModelFolder) -> bool:
        """A classifier of films."""
        return model.class_name.endswith("ForVideoClassification")

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Drawn films whose colours move."""
        return video_samples(model)

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """See :func:`video_cases`."""
        return video_cases(samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Pixels of the frames; option ``frame_sampling_rate`` of the case takes every so many."""
        return Batch(case, preprocess_videos(model, case))

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """The ``top_k`` (5) best labels; option ``function_to_apply``."""
        function = options.get("function_to_apply")
        return classify(model, outputs["logits"], function, options.get("top_k", DEFAULT_TOP_K))

    decisions = label_decisions


TASK = VideoClassification()
