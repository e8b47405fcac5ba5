"""Helpers of tasks on encoder-decoder models for text."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import (
    decode_texts,
    generate_text,
    generation_cases,
    long_answer_case,
    rows_of_samples,
    token_decisions,
    with_long_answer,
    with_stop_sequence,
)
from equipoise.validators.tasks.shared.text import tokenize, with_tokenizer_options

_TRANSLATION_MODEL_TYPES = frozenset({"marian", "m2m_100", "fsmt", "nllb-moe", "seamless_m4t"})
"""Model types that only translate."""


def is_text_to_text_model(model: ModelFolder) -> bool:
    """Checks whether the class is an encoder-decoder model from text to text."""
    return (
        model.class_name.endswith(("ForConditionalGeneration", "MTModel", "EncoderDecoderModel"))
        and model.class_name not in ("VisionEncoderDecoderModel", "SpeechEncoderDecoderModel")
        and bool(
            model.config.get("is_encoder_decoder") or model.model_type in _TRANSLATION_MODEL_TYPES
        )
        and "vision_config" not in model.config
        and model.has_tokenizer
        and not model.has_image_processor
        and not model.has_feature_extractor
    )


def is_translation_model(model: ModelFolder) -> bool:
    """Checks whether model type, prefix or task-specific parameters are those of translation, without summarization."""
    if model.model_type in _TRANSLATION_MODEL_TYPES:
        return True
    if str(model.config.get("prefix") or "").startswith("translate"):
        return True
    tasks = model.config.get("task_specific_params") or {}
    return any(name.startswith("translation") for name in tasks) and "summarization" not in tasks


def task_specific_params(model: ModelFolder, task: str) -> dict[str, str]:
    """Returns the config's first task of this kind, such as ``translation_en_to_de``, as a field of samples."""
    tasks = model.config.get("task_specific_params") or {}
    first = next((name for name in tasks if name.startswith(f"{task}_")), None)
    return {"task": first} if first else {}


def task_prefix(model: ModelFolder, task: str, sample: Sample) -> str:
    """Returns the prefix of the text: that of the task in the sample or the config; empty if the text starts with it."""
    tasks = model.config.get("task_specific_params") or {}
    name = str(sample.get("task") or task_specific_params(model, task).get("task", task))
    prefix = str(tasks.get(name, {}).get("prefix", model.config.get("prefix") or ""))
    return "" if str(sample["text"]).startswith(prefix) else prefix


def called_task(model: ModelFolder, case: Case) -> str:
    """Returns the task whose parameters in the config a call of the pipeline uses: a bare ``translation`` is the first of them."""
    called = str(case.options[PIPELINE]["task"])
    tasks = model.config.get("task_specific_params") or {}
    if called != "translation":
        return called
    return next((name for name in tasks if name.startswith("translation")), called)


def _call_prefix(model: ModelFolder, case: Case) -> str:
    tasks = model.config.get("task_specific_params") or {}
    own = tasks.get(called_task(model, case)) or {}
    return str(own.get("prefix", model.config.get("prefix")) or "")


def tokenize_texts(model: ModelFolder, case: Case, task: str) -> Arrays:
    """Tokenizes the texts with their prefixes."""
    if PIPELINE in case.options:
        prefix = _call_prefix(model, case)
        call = with_tokenizer_options(case, "truncation")
        arrays = tokenize(model, call, [prefix + str(sample["text"]) for sample in case.samples])
        arrays.pop("token_type_ids", None)
        return arrays
    texts = [task_prefix(model, task, sample) + str(sample["text"]) for sample in case.samples]
    first = case.samples[0]
    if "src_lang" in first and hasattr(model.tokenizer, "src_lang"):
        model.tokenizer.src_lang = first["src_lang"]
    arrays = tokenize(model, case, texts, **_without_token_types(model))
    arrays.pop("token_type_ids", None)
    return arrays


class TextToTextTask:
    """Base class of tasks from text to text on encoder-decoder models.

    Attributes:
        name: Name of the task, which selects the prefix in the config.
        answer_field: Field of the answer that contains the text.
    """

    name: str
    auto_class = "AutoModelForSeq2SeqLM"
    answer_field: str

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`, and one of a long answer."""
        return [*generation_cases(model, samples, "text"), long_answer_case(model, samples[0])]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts with the prefix that the config names for the task."""
        refuse_seamless(model)
        case = with_stop_sequence(model, case)
        return Batch(case, with_long_answer(model, case, tokenize_texts(model, case, self.name)))

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{answer_field: text}]`` for every sample, one for each of its texts; or token ids."""
        name = self.answer_field
        if batch.case.options.get(PIPELINE, {}).get("task") == "text2text-generation":
            name = "generated_text"
        rows = rows_of_samples(batch, outputs)
        if options.get("return_tensors"):
            ids = name.replace("_text", "_token_ids")
            return [[{ids: row} for row in sample] for sample in rows]
        clean = bool(options.get("clean_up_tokenization_spaces"))
        return [
            [
                {name: text}
                for text in decode_texts(model.tokenizer, {"sequences": sample}, clean_up=clean)
            ]
            for sample in rows
        ]

    decisions = token_decisions


def refuse_seamless(model: ModelFolder) -> None:
    """Refuses SeamlessM4T, whose own ``generate`` writes text with one model and speech with others.

    Raises:
        InputError: The model is one.
    """
    if model.model_type.startswith("seamless_m4t"):
        raise InputError(
            "SeamlessM4T is not supported: its own generate() runs several models in turn",
            file=model.path,
            hint="convert it, and run it in transformers",
        )


def _without_token_types(model: ModelFolder) -> dict[str, CallOption]:
    return {"return_token_type_ids": False} if model.tokenizer.is_fast else {}
