"""Fill-mask: predicts masked tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import softmax
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
    TokenIds,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import DEFAULT_TOP_K, argmax_margins
from equipoise.validators.tasks.shared.text import text_cases, token_mask, tokenize


class FillMask:
    """Masked language models; a text may have several masks."""

    name = "fill-mask"
    aliases = ()
    auto_class = "AutoModelForMaskedLM"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a masked language model, also one with a second pretraining head."""
        suffixes = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")
        return (
            model.class_name.endswith(suffixes)
            and model.has_tokenizer
            and not model.has_image_processor
            and not model.has_feature_extractor
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns sentences with a mask."""
        mask = model.tokenizer.mask_token
        return [
            {"text": f"The capital of France is {mask}."},
            {"text": f"She {mask} to school."},
            {"text": f"In the morning I drink a cup of {mask} with a little milk and sugar."},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`text_cases`."""
        return text_cases(model, samples)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts and stores the positions of masks.

        Raises:
            InputError: A text has no mask.
        """
        arrays = tokenize(model, case, [str(sample["text"]) for sample in case.samples])
        masks = [
            np.flatnonzero(row == model.tokenizer.mask_token_id) for row in arrays["input_ids"]
        ]
        if any(not len(positions) for positions in masks):
            raise InputError("a text has no mask", expected=model.tokenizer.mask_token)
        return Batch(case, arrays, valid={"logits": token_mask(arrays)}, context=masks)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns the ``top_k`` (5) tokens of a mask, or a list of those for several masks; ``targets`` limits the tokens."""
        targets = self._target_ids(model, options.get("targets"))
        answers = []
        for index, positions in enumerate(batch.context):
            ids = batch.arrays["input_ids"][index]
            rows = [
                self._predict_tokens(
                    model,
                    ids,
                    position,
                    outputs["logits"][index, position],
                    targets,
                    options,
                    is_only_mask=len(positions) == 1,
                )
                for position in positions.tolist()
            ]
            answers.append(rows[0] if len(rows) == 1 else rows)
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the best token of every mask."""
        decisions = []
        for index, positions in enumerate(batch.context):
            rows = outputs["logits"][index, positions]
            words = [model.tokenizer.decode([best]) for best in rows.argmax(-1).tolist()]
            decisions.append(
                Decision("words", words, "logits", (index, positions), argmax_margins(rows))
            )
        return decisions

    @staticmethod
    def _target_ids(model: ModelFolder, targets: CallOption) -> list[int] | None:
        if targets is None:
            return None
        words = [targets] if isinstance(targets, str) else list(targets)
        vocabulary = model.tokenizer.get_vocab()
        ids = {
            vocabulary.get(
                word, next(iter(model.tokenizer.encode(word, add_special_tokens=False)), -1)
            )
            for word in words
        }
        if not ids - {-1}:
            raise InputError("none of the targets is a token", found=words)
        return sorted(ids - {-1})

    @staticmethod
    def _predict_tokens(
        model: ModelFolder,
        ids: TokenIds,
        position: int,
        logits: Array,
        targets: list[int] | None,
        options: dict[str, CallOption],
        is_only_mask: bool,
    ) -> list[dict[str, Answer]]:
        tokenizer = model.tokenizer
        scores = softmax(logits)
        candidates = np.asarray(targets if targets is not None else range(len(scores)))
        count = DEFAULT_TOP_K if options.get("top_k") is None else int(options["top_k"])
        if targets is None and count > len(scores):
            raise InputError(
                f"the vocabulary has {len(scores)} tokens", found=f"top_k {count}", expected="fewer"
            )
        order = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
        answers = []
        for token in order.tolist():
            filled = ids.copy()
            filled[position] = token
            filled = filled[filled != tokenizer.pad_token_id]
            answers.append(
                {
                    "score": float(scores[token]),
                    "token": token,
                    "token_str": tokenizer.decode([token]),
                    "sequence": tokenizer.decode(filled, skip_special_tokens=is_only_mask),
                }
            )
        return answers


TASK = FillMask()
