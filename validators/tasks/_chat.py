"""Chats: messages with roles, rendered through a template of the tokenizer or processor in the sandbox of Jinja."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Processor
from equipoise.validators.core.types import Arrays, CallOption, Case
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.shared.text import to_int64

Message = dict[str, Any]
"""A message: ``role``, and ``content``, a text or a list of parts."""


def encode_chat(
    model: ModelFolder,
    case: Case,
    renderer: Processor,
    messages: Sequence[Message],
    **options: CallOption,
) -> Arrays:
    """Returns the tokens of a chat, and its images.

    Args:
        model: The model's folder.
        case: The call; its option ``continue_final_message`` says whether the last message is continued.
        renderer: The tokenizer or processor.
        messages: The messages.
        options: Further options of the template.

    Raises:
        InputError: It is no chat, there is no template, or the template refuses the messages.
    """
    check_messages(messages)
    continues = continues_last(case, messages)
    try:
        encoding = renderer.apply_chat_template(
            messages,
            add_generation_prompt=not continues,
            continue_final_message=continues,
            tokenize=True,
            return_dict=True,
            return_tensors="np",
            **options,
        )
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("builtins", "jinja2"):
            raise
        raise InputError(
            f"the chat cannot be rendered: {error}",
            file=model.path,
            hint="give the prompt as a text",
        ) from error
    return {name: to_int64(np.asarray(value)) for name, value in encoding.items()}


def check_messages(messages: object) -> None:
    """Checks that a value is a chat.

    Raises:
        InputError: It is none.
    """
    items = messages if isinstance(messages, list | tuple) else ()
    is_chat = all(isinstance(one, dict) and {"role", "content"} <= set(one) for one in items)
    if not items or not is_chat:
        raise InputError(
            "not a chat",
            found=str(messages)[:200],
            expected='[{"role": "user", "content": "..."}, ...]',
        )


def continues_last(case: Case, messages: Sequence[Message]) -> bool:
    """Checks whether the model continues the last message: as the call says, else where it is the model's own."""
    given = case.options.get("continue_final_message")
    return bool(messages[-1]["role"] == "assistant" if given is None else given)
