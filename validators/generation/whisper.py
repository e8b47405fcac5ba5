"""Whisper's own ``generate``: its prompt of language and task, tokens of time, and audio longer than its window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import PIPELINE, Array, Arrays, CallOption, Runner
from equipoise.validators.generation.settings import TimeRules
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.parameters.declarations import generation_fields

INPUT_STRIDE = 2
"""Frames of features for each position of the encoder: the strides of its two convolutions."""

_TASKS = ("translate", "transcribe")
_START = "decoder_start_token_id"


@dataclass(frozen=True)
class WhisperPrompt:
    """The tokens that the decoder starts with.

    Attributes:
        tokens: Ids: what comes before, start, language, task, and whether there are no times.
        start: Id of the start token.
        language_at: Position of the language's token where the model has to detect the language; else None.
        language_ids: Ids of the languages that the model knows.
    """

    tokens: tuple[int, ...]
    start: int
    language_at: int | None
    language_ids: tuple[int, ...]


def is_whisper(model: ModelFolder) -> bool:
    """Checks whether the model is a Whisper."""
    return model.model_type == "whisper"


def whisper_config(model: ModelFolder, options: Mapping[str, CallOption]) -> dict[str, Any]:
    """Returns the generation config with the arguments of Whisper's ``generate`` that a call gives."""
    names = ("language", "task", "return_timestamps", "is_multilingual", "prompt_ids")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if _START in options:
        given[_START] = options[_START]
    own = model.generation_config
    if own.get("_from_model_config"):
        # transformers reads the known fields alone of a config that was made of a model's.
        own = {name: value for name, value in own.items() if name in generation_fields()}
    config = {**own, **given}
    if given.get("return_timestamps") is False and own.get("return_timestamps"):
        config["return_timestamps"] = True  # a config that asks for times wins, as in the pipeline
    return config


def time_rules(model: ModelFolder, options: Mapping[str, CallOption]) -> TimeRules | None:
    """Returns the rules for tokens of time; None where a call or the config asks for none, or no call is made.

    Raises:
        InputError: Times are asked for and the generation config has no token for them.
    """
    config = whisper_config(model, options)
    if not config.get("return_timestamps"):
        return None
    plain = config.get("no_timestamps_token_id")
    if plain is None:
        if PIPELINE not in options:
            return None
        raise InputError(
            "the model has no tokens of time", file=model.path / "generation_config.json",
            expected="no_timestamps_token_id",
        )  # fmt: skip
    end = config.get("eos_token_id") or config.get("bos_token_id")
    return TimeRules(
        first=int(plain) + 1,
        plain=int(plain),
        end=int(end[0] if isinstance(end, list) else end or 0),
        last_initial=config.get("max_initial_timestamp_index"),
        by_probability=bool(config.get("_detect_timestamp_from_logprob", True)),
    )


def whisper_prompt(model: ModelFolder, options: Mapping[str, CallOption]) -> WhisperPrompt:
    """Returns the prompt of a call: start, language, task, and no times, after the tokens of ``prompt_ids``.

    Raises:
        InputError: The model has no such language or task.
    """
    config = whisper_config(model, options)
    language, task = config.get("language"), config.get("task")
    _check_multilingual(model, config, options)
    start = config.get(_START)
    if not isinstance(start, int):
        raise InputError(
            "speech is written after one start token: decoder_start_token_id",
            file=model.path,
            found=start,
        )
    tokens: list[int | None] = [start]
    if language is None and task is None:
        tokens += _forced_tokens(config, model)
    languages = config.get("lang_to_id")
    is_undefined = len(tokens) <= 1 or tokens[1] is None
    language_at = None
    if language is not None:
        tokens[1:2] = [_language_id(model, str(language), languages)]
    elif languages is not None and is_undefined:
        language_at = 1
        tokens[1:2] = [min(languages.values())]
    _add_task(model, config, tokens, language, task)
    plain = config.get("no_timestamps_token_id")
    if not config.get("return_timestamps"):
        if plain is not None and tokens[-1] != plain:
            tokens.append(int(plain))
    elif tokens[-1] == plain:
        tokens.pop()
    before = [int(token) for token in config.get("prompt_ids") or ()]
    ids = tuple(int(token) for token in tokens if token is not None)
    at = None if language_at is None else len(before) + language_at
    return WhisperPrompt((*before, *ids), start, at, tuple(sorted((languages or {}).values())))


def detect_language(runner: Runner, features: Array, prompt: WhisperPrompt) -> Array:
    """Returns the logits of the languages that the model knows (samples, languages), after the start token."""
    ids = np.full((len(features), 1), prompt.start, dtype=np.int64)
    outputs = runner.run({"input_features": features, "decoder_input_ids": ids})
    return np.asarray(outputs["logits"][:, -1][:, list(prompt.language_ids)])


def first_time_token(model: ModelFolder) -> int:
    """Returns the id of the token of 0.00 seconds; beyond the vocabulary for a model without times."""
    plain = whisper_config(model, {}).get("no_timestamps_token_id")
    return int(model.config["vocab_size"] if plain is None else plain) + 1


def window_frames(model: ModelFolder) -> int:
    """Returns how many frames of features the encoder takes."""
    return INPUT_STRIDE * int(model.config.get("max_source_positions", 1500))


def next_segment(tokens: Array, first_time: int, frames: int) -> tuple[list[int], int]:
    """Returns the tokens of a segment that hold, and by how many frames the next segment starts later.

    Where the last two tokens are not both times, the text behind the last pair of times is not finished: the next segment
    starts at that time.

    Args:
        tokens: What was generated for the segment, without the end token.
        first_time: Id of the token of 0.00 seconds; what lies beyond it are times, whether they were asked for or not.
        frames: Number of frames of the segment.
    """
    is_time = tokens >= first_time
    pairs = np.flatnonzero(is_time[:-1] & is_time[1:]) + 1
    if not len(pairs):
        return tokens.tolist(), frames
    if is_time[-2:].tolist() == [False, True]:
        return tokens.tolist(), frames
    end = int(pairs[-1]) + 1
    return tokens[:end].tolist(), int(tokens[end - 2] - first_time) * INPUT_STRIDE


def trim_tokens(tokens: Array, config: Mapping[str, Any]) -> Array:
    """Returns generated tokens without padding and without the end token."""
    pad, end = config.get("pad_token_id"), config.get("eos_token_id")
    if len(tokens) and tokens[-1] == pad:
        padding = int((tokens == pad).sum()) - int(pad == end)
        tokens = tokens[: len(tokens) - padding]
    return tokens[:-1] if len(tokens) and tokens[-1] == end else tokens


def _forced_tokens(config: Mapping[str, Any], model: ModelFolder) -> list[int | None]:
    forced = config.get("forced_decoder_ids")
    forced = model.config.get("forced_decoder_ids") if forced is None else forced
    if not forced or forced[0][0] != 1:
        return []
    if [index for index, _ in forced] != list(range(1, len(forced) + 1)):
        raise InputError(
            "forced_decoder_ids leave out a position",
            file=model.path / "generation_config.json",
            found=forced,
        )
    return [None if token is None else int(token) for _, token in forced]


def _check_multilingual(
    model: ModelFolder, config: Mapping[str, Any], options: Mapping[str, CallOption]
) -> None:
    given = [name for name in ("language", "task") if options.get(name) is not None]
    if given and config.get("is_multilingual") is False:
        raise InputError(
            f"the model knows English alone, and the call gives {given[0]}", file=model.path,
            hint="leave language and task out",
        )  # fmt: skip
    for name, field in (("language", "lang_to_id"), ("task", "task_to_id")):
        if name in given and config.get(field) is None:
            raise InputError(
                f"the generation config does not say which token means which {name}",
                file=model.path / "generation_config.json", expected=field,
            )  # fmt: skip


def _language_id(model: ModelFolder, language: str, languages: Mapping[str, int] | None) -> int:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    known = languages or {}
    name = language.lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    for token in (name, f"<|{code}|>"):
        if token in known:
            return int(known[token])
    names = sorted(token.strip("<|>") for token in known)
    raise InputError(
        f"the model has no language {language}", file=model.path, expected=", ".join(names[:20])
    )


def _add_task(
    model: ModelFolder,
    config: Mapping[str, Any],
    tokens: list[int | None],
    language: CallOption,
    task: CallOption,
) -> None:
    numbers = config.get("task_to_id") or {}
    if task is not None:
        if task not in _TASKS or task not in numbers:
            raise InputError(
                f"the model has no task {task}",
                file=model.path,
                expected=", ".join(numbers or _TASKS),
            )
        tokens.append(int(numbers[task]))
    elif language is not None and numbers and not set(numbers.values()) & set(tokens):
        tokens.append(int(numbers["transcribe"]))


def replace_language(arrays: Arrays, prompt: WhisperPrompt, ids: Array) -> Arrays:
    """Returns the inputs with a detected language in the decoder's prompt."""
    tokens = np.array(arrays["decoder_input_ids"])
    tokens[:, prompt.language_at] = ids
    return {**arrays, "decoder_input_ids": tokens}
