"""Automatic speech recognition: transcribes audio, with CTC or a decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.framework_types import JsonValue
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
)
from equipoise.validators.models.auto_classes import has_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import forward
from equipoise.validators.tasks.shared.audio import (
    audio_cases,
    count_output_frames,
    extract_features,
    load_audio,
    synthetic_audio_samples,
)
from equipoise.validators.tasks.shared.generation import (
    decode_texts,
    generate_text,
    generation_cases,
    long_answer_case,
    token_decisions,
    with_long_answer,
)
from equipoise.validators.tasks.shared.labels import argmax_margins


class AutomaticSpeechRecognition:
    """CTC models (wav2vec2), and encoder-decoder models (Whisper, Speech2Text)."""

    name = "automatic-speech-recognition"
    aliases = ("asr",)
    auto_class = "AutoModelForSpeechSeq2Seq"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a speech recognition class with a tokenizer."""
        return (
            model.has_feature_extractor
            and model.has_tokenizer
            and (
                _is_ctc(model)
                or model.class_name.endswith("ForSpeechToText")
                or has_class(model, "AutoModelForSpeechSeq2Seq")
            )
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic audio: it contains no speech, but the outputs are compared all the same."""
        return synthetic_audio_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`audio_cases` or :func:`generation_cases`."""
        if _is_ctc(model):
            return audio_cases(model, samples)
        return [*generation_cases(model, samples), long_answer_case(model, samples[0])]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the audio; for Whisper adds the decoder's prompt."""
        arrays = extract_features(model, case.samples)
        if model.model_type == "whisper":
            arrays.pop("attention_mask", None)
            start = np.asarray([_whisper_prompt(model.generation_config)], dtype=np.int64)
            arrays["decoder_input_ids"] = np.repeat(start, len(case.samples), axis=0)
        if not _is_ctc(model):
            return Batch(case, with_long_answer(model, case, arrays))
        lengths = count_output_frames(
            model, np.asarray([len(load_audio(model, s)) for s in case.samples])
        )
        if "input_features" in arrays:
            lengths = arrays["attention_mask"].sum(axis=1)
        valid = np.arange(int(lengths.max()))[None] < lengths[:, None]
        return Batch(case, arrays, valid={"logits": valid}, context={"lengths": lengths})

    def run(
        self, runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None = None
    ) -> Arrays:
        """Runs one forward pass for CTC, else a generation loop."""
        if _is_ctc(model):
            return forward(runner, batch)
        return generate_text(self, runner, model, batch, follow)

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``{"text"}``; for CTC ``return_timestamps`` (char, word) adds ``chunks``."""
        if not _is_ctc(model):
            return [{"text": text} for text in decode_texts(model.tokenizer, outputs)]
        answers = []
        for row, length in zip(outputs["logits"], batch.context["lengths"], strict=True):
            ids = row[:length].argmax(-1)
            result: dict[str, Answer] = {"text": str(model.tokenizer.decode(ids))}
            if options.get("return_timestamps"):
                result["chunks"] = _ctc_chunks(model, ids, str(options["return_timestamps"]))
            answers.append(result)
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the token of every frame for CTC, else the generated tokens."""
        if not _is_ctc(model):
            return token_decisions(self, model, batch, outputs)
        decisions = []
        for index, length in enumerate(batch.context["lengths"].tolist()):
            rows = outputs["logits"][index, :length]
            tokens = rows.argmax(-1).tolist()
            decisions.append(
                Decision(
                    "frames", tokens, "logits", (index, slice(0, length)), argmax_margins(rows)
                )
            )
        return decisions


def _is_ctc(model: ModelFolder) -> bool:
    return model.class_name.endswith("ForCTC")


def _whisper_prompt(config: dict[str, JsonValue]) -> list[int]:
    """Returns the tokens before the text (start, language, task, no timestamps), as Whisper's own ``generate`` does."""
    tokens = [int(config["decoder_start_token_id"])]
    language, task = config.get("language"), config.get("task")
    if language is None and task is None:
        forced_ids = config.get("forced_decoder_ids") or []
        tokens += [int(token) for _, token in forced_ids if token is not None]
    if language is not None:
        language_ids = config.get("lang_to_id") or {}
        tokens.append(
            int(language_ids[language if language in language_ids else f"<|{language}|>"])
        )
    tasks = config.get("task_to_id") or {}
    if (language or task) and tasks:
        tokens.append(int(tasks[task or "transcribe"]))
    no_timestamps = config.get("no_timestamps_token_id")
    if (
        no_timestamps is not None
        and not config.get("return_timestamps")
        and tokens[-1] != no_timestamps
    ):
        tokens.append(int(no_timestamps))
    return tokens


def _ctc_chunks(model: ModelFolder, ids: Array, unit: str) -> list[dict[str, Answer]]:
    """Returns characters or words with the seconds of their start and end."""
    tokenizer = model.tokenizer
    offsets = tokenizer.decode(ids, output_char_offsets=True)["char_offsets"]
    if unit == "word":
        offsets = tokenizer._get_word_offsets(offsets, tokenizer.replace_word_delimiter_char)
    samples_per_frame = int(np.prod(model.config.get("conv_stride") or [1]))
    rate = int(model.feature_extractor.sampling_rate)
    return [
        {
            "text": chunk[unit],
            "timestamp": (
                chunk["start_offset"] * samples_per_frame / rate,
                chunk["end_offset"] * samples_per_frame / rate,
            ),
        }
        for chunk in offsets
    ]


TASK = AutomaticSpeechRecognition()
