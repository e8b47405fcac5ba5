"""Translation: translates a text."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean
from equipoise.validators.core.types import PIPELINE, Batch, Case, Sample
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.generation import with_stop_sequence
from equipoise.validators.tasks.shared.seq2seq import (
    TextToTextTask,
    called_task,
    is_text_to_text_model,
    is_translation_model,
    refuse_seamless,
)
from equipoise.validators.tasks.shared.text import check_positions, to_int64


class Translation(TextToTextTask):
    """Marian and similar models, and T5 if its config or prefix is that of translation."""

    name = "translation"
    aliases = ()
    answer_field = "translation_text"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for an encoder-decoder model for text that is made to translate."""
        return is_text_to_text_model(model) and is_translation_model(model)

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes the texts; models of many languages get the source's code, and the target's as first token.

        Raises:
            InputError: Such a model has no such language, or the call names none.
        """
        build = getattr(model.tokenizer, "_build_translation_inputs", None)
        if PIPELINE not in case.options or build is None:
            return super().encode(model, case)
        refuse_seamless(model)
        case = with_stop_sequence(model, case)
        source, target = _languages(model, case)
        _check_first_token(case, target)
        options = {"truncation": case.options.get("truncation") or False}
        (sample,) = case.samples
        encoding = build(
            [str(sample["text"])], return_tensors="np", src_lang=source, tgt_lang=target, **options
        )
        arrays = {name: to_int64(np.asarray(value)) for name, value in encoding.items()}
        first = int(arrays.pop("forced_bos_token_id"))
        check_positions(model, arrays["input_ids"].shape[1])
        return Batch(replace(case, options={**case.options, "forced_bos_token_id": first}), arrays)

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns texts of different lengths."""
        texts = (
            "The house is small.",
            "Good morning!",
            "My brother has lived in Berlin for ten years, but he speaks no German.",
        )
        return [{"text": text} for text in texts]


def _languages(model: ModelFolder, case: Case) -> tuple[str, str]:
    """Returns source and target language: those of the call, or of a task's name such as ``translation_en_to_de``."""
    sample = case.samples[0]
    source = case.options.get("src_lang", sample.get("src_lang"))
    target = case.options.get("tgt_lang", sample.get("tgt_lang"))
    parts = called_task(model, case).split("_")
    if len(parts) == 4:
        source, target = source or parts[1], target or parts[3]
    if source is None or target is None:
        named = "none of them" if source is target else source or target
        raise InputError(
            f"the model translates between many languages, and the call names {named}",
            file=model.path,
            expected=f"src_lang and tgt_lang, such as {', '.join(_codes(model)[:3])}",
            hint="--option src_lang=... --option tgt_lang=...",
        )
    codes = _codes(model)
    for code in (source, target):
        if code not in codes:
            longer = [one for one in codes if one.startswith(str(code).lower())]
            raise InputError(
                f"the model has no language {code}",
                file=model.path,
                expected=", ".join(codes[:12]),
                hint=did_you_mean(str(code), longer or codes, least=0.4),
            )
    return str(source), str(target)


def _check_first_token(case: Case, target: str) -> None:
    """Checks that a call does not force another first token than that of its language.

    Raises:
        InputError: It does; pipeline() raises too.
    """
    if (token := case.options.get("forced_bos_token_id")) is not None:
        raise InputError(
            f"tgt_lang {target} sets the first token of the translation, and forced_bos_token_id another",
            found=f"forced_bos_token_id {token}",
            hint="leave out forced_bos_token_id",
        )


def _codes(model: ModelFolder) -> list[str]:
    """Returns the codes of the languages that the tokenizer knows."""
    tokenizer = model.tokenizer
    for name in ("lang_code_to_id", "lang_token_to_id"):
        if getattr(tokenizer, name, None):
            return [str(code).strip("_") for code in getattr(tokenizer, name)]
    known = tokenizer.get_added_vocab()
    return sorted(name for name in known if re.fullmatch(r"[a-z]{2,3}_[A-Za-z]{2,4}", name))


TASK = Translation()
