"""Image and text to text: continues a text about an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import (
    PIPELINE,
    Answer,
    Arrays,
    Batch,
    CallOption,
    Case,
    Sample,
    SampleValue,
)
from equipoise.validators.models.auto_classes import has_class
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.media import open_image
from equipoise.validators.parameters.declarations import PROCESSOR
from equipoise.validators.tasks._chat import continues_last, encode_chat
from equipoise.validators.tasks.shared.generation import (
    decode_call,
    generate_text,
    generation_cases,
    rows_of_samples,
    token_decisions,
    with_stop_sequence,
)
from equipoise.validators.tasks.shared.images import load_image, synthetic_image
from equipoise.validators.tasks.shared.text import to_int64


class ImageTextToText:
    """LLaVA and similar models, whose tokens include images."""

    name = "image-text-to-text"
    aliases = ()
    auto_class = "AutoModelForImageTextToText"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for a text decoder that accepts images among the tokens."""
        return (
            ("vision_config" in model.config or "image_token_id" in model.config)
            and model.class_name.endswith(("ForConditionalGeneration", "ForCausalLM"))
            and model.model_type not in ("git", "blip")
            and has_class(model, "AutoModelForImageTextToText", "AutoModelForVision2Seq")
        )

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns questions of different lengths about synthetic images."""
        token = str(getattr(model.processor, "image_token", "<image>"))
        questions = ("What colour is the disc?", "What is this?", "Is there a yellow box below?")
        return [
            {"image": synthetic_image(index), "text": f"{token} {question}"}
            for index, question in enumerate(questions)
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns the cases of :func:`generation_cases`, without a long text: it would repeat the image token."""
        return generation_cases(model, samples, padding_side="left")

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Encodes texts, padded on the left, and images; chats through the processor's template.

        Raises:
            InputError: The processor refuses the sample.
        """
        case = _with_end(model, case)
        if PIPELINE in case.options and not isinstance(case.samples[0]["text"], str):
            return _encode_chat(model, case)
        images = [load_image(sample) for sample in case.samples]
        texts = [str(sample["text"]) for sample in case.samples]
        options = case.options.get(PROCESSOR, {})
        given = {name: value for name, value in options.items() if value is not None}
        try:
            encoding = model.processor(
                images=images,
                text=texts,
                return_tensors="np",
                **{"padding": len(case.samples) > 1, "padding_side": "left", **given},
            )
        except ValueError as error:
            raise InputError(f"the processor refuses the sample: {error}", found=texts) from error
        arrays = {name: to_int64(np.asarray(value)) for name, value in encoding.items()}
        return Batch(case, arrays, context={"decoder_only": True})

    run = generate_text

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns ``[{"input_text", "generated_text"}]``; ``return_full_text=False``: the new text; ``return_tensors``: ids.

        Raises:
            InputError: Two options exclude each other.
        """
        full, tensors = options.get("return_full_text"), options.get("return_tensors")
        if full is not None and tensors is not None:
            raise InputError(
                "only one of these options can be given", found="return_full_text, return_tensors"
            )
        answers = []
        for index, sample in enumerate(batch.case.samples):
            prompt = batch.context.get("messages", sample["text"])
            row = rows_of_samples(batch, outputs)[index][0]
            if tensors is not None:
                answers.append([{"input_text": prompt, "generated_token_ids": row}])
                continue
            prompt_text = decode_call(model.tokenizer, batch.arrays["input_ids"][index], options)
            text = decode_call(model.tokenizer, row, options)
            # Decoding may add one or two spaces in front, as pipeline() allows.
            position = text.find(prompt_text)
            new: Answer = text[position + len(prompt_text) :] if 0 <= position <= 2 else text
            if full is None or full:
                new = _append_text(prompt, new, batch.case)
            answers.append([{"input_text": prompt, "generated_text": new}])
        return answers

    decisions = token_decisions


def _with_end(model: ModelFolder, case: Case) -> Case:
    """Returns a case whose option ``stop_sequence`` has become an end token."""
    return with_stop_sequence(model, case) if "stop_sequence" in case.options else case


def _encode_chat(model: ModelFolder, case: Case) -> Batch:
    """Renders a chat with images through the processor's template, in the sandbox of Jinja, and encodes both.

    Raises:
        InputError: The processor has no template, or the template refuses the messages.
    """
    (sample,) = case.samples
    messages = _with_images(sample)
    arrays = encode_chat(model, case, model.processor, messages)
    return Batch(case, arrays, context={"decoder_only": True, "messages": messages})


def _with_images(sample: Sample) -> list[dict[str, Any]]:
    """Returns the messages with the sample's images in the places that have none, in their order.

    Raises:
        InputError: There are more images than places, or fewer.
    """
    images = sample.get("images", sample.get("image"))
    left = list(images) if isinstance(images, list) else [images]
    messages: list[dict[str, Any]] = []
    for message in sample["text"]:
        parts = message["content"]
        if isinstance(parts, str):
            messages.append(dict(message))
            continue
        filled = []
        for part in parts:
            is_place = part.get("type") == "image" and not {"image", "url", "path", "base64"} & set(
                part
            )
            if is_place and not left:
                raise InputError(
                    "the chat has more images than the sample", found=str(len(messages))
                )
            filled.append({**part, "image": open_image(left.pop(0))} if is_place else part)
        messages.append({**message, "content": filled})
    if left:
        raise InputError("the sample has more images than the chat", found=str(len(left)))
    return messages


def _append_text(prompt: SampleValue, new: str, case: Case) -> Answer:
    if isinstance(prompt, str):
        return prompt + new
    *earlier, last = prompt
    if not continues_last(case, prompt):
        return [*prompt, {"role": "assistant", "content": new}]
    *parts, part = last["content"]
    return [
        *earlier,
        {"role": last["role"], "content": [*parts, {**part, "text": part["text"] + new}]},
    ]


TASK = ImageTextToText()
