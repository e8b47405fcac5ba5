"""Helpers of tasks on encoder-decoder models for text."""

from __future__ import annotations

from typing import Any

from equipoise.validators.core.types import Arrays, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.text import tokenize

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
    found = next((name for name in tasks if name.startswith(f"{task}_")), None)
    return {"task": found} if found else {}


def task_prefix(model: ModelFolder, task: str, sample: Sample) -> str:
    """Returns the prefix of the text: that of the task in the sample or the config; empty if the text starts with it."""
    tasks = model.config.get("task_specific_params") or {}
    asked = str(sample.get("task") or task_specific_params(model, task).get("task", task))
    prefix = str(tasks.get(asked, {}).get("prefix", model.config.get("prefix") or ""))
    return "" if str(sample["text"]).startswith(prefix) else prefix


def tokenize_texts(model: ModelFolder, case: Case, task: str) -> Arrays:
    """Tokenizes the texts with their prefixes."""
    texts = [task_prefix(model, task, sample) + str(sample["text"]) for sample in case.samples]
    languages = case.samples[0]
    if "src_lang" in languages and hasattr(model.tokenizer, "src_lang"):
        model.tokenizer.src_lang = languages["src_lang"]
    arrays = tokenize(model, case, texts, **_without_token_types(model))
    arrays.pop("token_type_ids", None)
    return arrays


def _without_token_types(model: ModelFolder) -> dict[str, Any]:
    return {"return_token_type_ids": False} if model.tokenizer.is_fast else {}
