"""Automatic speech recognition: transcribes audio, with CTC or a decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
    Sample,
)
from equipoise.validators.generation.whisper import is_whisper
from equipoise.validators.models.auto_classes import has_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks._speech import (
    decode_call,
    detect_languages,
    encode_call,
    is_ctc,
    language_decisions,
    run_call,
    with_whisper_prompt,
    with_window_note,
)
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
from equipoise.validators.tasks.shared.seq2seq import refuse_seamless


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
                is_ctc(model)
                or model.class_name.endswith("ForSpeechToText")
                or has_class(model, "AutoModelForSpeechSeq2Seq")
            )
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns synthetic audio: it contains no speech, but the outputs are compared all the same."""
        return synthetic_audio_samples()

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`audio_cases` or :func:`generation_cases`."""
        if is_ctc(model):
            return audio_cases(model, samples)
        cases = [*generation_cases(model, samples), long_answer_case(model, samples[0])]
        return [with_window_note(model, case) for case in cases] if is_whisper(model) else cases

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes the audio; for Whisper adds the decoder's prompt. A call may split it into chunks.

        Raises:
            InputError: The options do not fit the model, or the audio is longer than the model's window.
        """
        refuse_seamless(model)
        if PIPELINE in case.options:
            return encode_call(model, case)
        arrays = extract_features(model, case.samples)
        if not is_ctc(model):
            return Batch(
                case, with_long_answer(model, case, with_whisper_prompt(model, case, arrays))
            )
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
        """Runs one forward pass for CTC, else a generation loop; the chunks of a call one by one."""
        if PIPELINE in batch.case.options:
            return run_call(runner, model, batch)
        if is_ctc(model):
            return forward(runner, batch)
        if is_whisper(model):
            batch, languages = detect_languages(runner, model, batch, follow)
            return {**languages, **generate_text(self, runner, model, batch, follow)}
        return generate_text(self, runner, model, batch, follow)

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``{"text"}``; ``return_timestamps`` adds ``chunks``: of characters or words (CTC), of segments (Whisper)."""
        if PIPELINE in batch.case.options:
            return [decode_call(model, batch, outputs, options)]
        if not is_ctc(model):
            return [{"text": text} for text in decode_texts(model.tokenizer, outputs)]
        answers = []
        for row, length in zip(outputs["logits"], batch.context["lengths"], strict=True):
            answers.append({"text": str(model.tokenizer.decode(row[:length].argmax(-1)))})
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the token of every frame for CTC, else the generated tokens."""
        if not is_ctc(model):
            return [
                *language_decisions(model, batch, outputs),
                *token_decisions(self, model, batch, outputs),
            ]
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


TASK = AutomaticSpeechRecognition()
