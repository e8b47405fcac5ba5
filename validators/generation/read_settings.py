"""Reads the settings of a generation: of the generation config, of the pipeline and of the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.validators.core.types import PIPELINE, CallOption
from equipoise.validators.generation.settings import (
    DEFAULT_NEW_TOKENS,
    GenerationSettings,
    Sampling,
    TokenBias,
)
from equipoise.validators.parameters.declarations import generation_fields, whisper_fields


def read_settings(
    config: Mapping[str, JsonValue], options: Mapping[str, CallOption]
) -> GenerationSettings:
    """Reads the settings; ``options`` of a case or a call (``num_beams``, ``max_new_tokens``) override the config.

    Raises:
        InputError: A setting would change the text and is not supported, or two do not go together.
    """
    given = {name: options[name] for name in generation_fields() if name in options}
    config = {**config, **given}
    _check_supported(config)
    eos = _as_tuple(config.get("eos_token_id"))
    pad = config.get("pad_token_id")
    start = config.get("decoder_start_token_id")
    decay = config.get("exponential_decay_length_penalty")
    is_call = PIPELINE in options
    settings = GenerationSettings(
        num_beams=int(config.get("num_beams") or 1),
        num_return_sequences=int(config.get("num_return_sequences") or 1) if is_call else 1,
        max_length=config.get("max_length"),
        max_new_tokens=config.get("max_new_tokens"),
        is_max_length_given=given.get("max_length") is not None,
        min_length=int(config.get("min_length") or 0),
        min_new_tokens=config.get("min_new_tokens"),
        eos_token_ids=eos,
        pad_token_id=int(pad) if pad is not None else (eos[0] if eos else 0),
        start_token_ids=_as_tuple(config.get("bos_token_id") if start is None else start),
        forced_bos_token_id=_one_token("forced_bos_token_id", config),
        forced_eos_token_ids=_forced_ends(config, is_call=is_call),
        suppress_tokens=_as_tuple(config.get("suppress_tokens")),
        begin_suppress_tokens=_as_tuple(config.get("begin_suppress_tokens")),
        biases=(*_sequence_biases(config), *_bad_words(config.get("bad_words_ids"), eos)),
        no_repeat_ngram_size=int(config.get("no_repeat_ngram_size") or 0),
        encoder_no_repeat_ngram_size=int(config.get("encoder_no_repeat_ngram_size") or 0),
        repetition_penalty=_float_or(config.get("repetition_penalty") or None, 1.0),
        encoder_repetition_penalty=_float_or(config.get("encoder_repetition_penalty") or None, 1.0),
        exponential_decay=(float(decay[0]), float(decay[1])) if decay else None,
        remove_invalid_values=bool(config.get("remove_invalid_values")),
        renormalize_logits=bool(config.get("renormalize_logits")),
        length_penalty=_float_or(config.get("length_penalty"), 1.0),
        early_stopping=config.get("early_stopping") or False,
        max_position_embeddings=config.get("max_position_embeddings"),
        stop_strings=_texts(config.get("stop_strings")),
        sampling=_sampling(config, options),
    )
    settings.check_number_of_texts()
    return settings


def pipeline_config(
    config: Mapping[str, JsonValue],
    defaults: Mapping[str, JsonValue],
    task_params: Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """Returns a generation config as ``pipeline()`` of transformers 4.57.6 calls ``generate`` with it.

    Its own defaults go before the model's, except that a model's ``max_length`` goes before its ``max_new_tokens``; the
    config's parameters of the task go before both.

    Args:
        config: The model's generation config.
        defaults: The pipeline's defaults.
        task_params: The config's ``task_specific_params`` of the task.
    """
    merged = {**config, **defaults}
    length = config.get("max_length")
    if "max_new_tokens" in defaults and length is not None and length != DEFAULT_NEW_TOKENS:
        merged["max_new_tokens"] = config.get("max_new_tokens")
    return {**merged, **{name: value for name, value in task_params.items() if name != "prefix"}}


def _check_supported(config: Mapping[str, JsonValue]) -> None:
    for name, parameter in {**generation_fields(), **whisper_fields()}.items():
        value = config.get(name)
        if parameter.effect == "refused" and not parameter.is_off(value):
            raise InputError(
                f"generation with {name} is not supported: {parameter.about}",
                found=value,
                hint="remove it from generation_config.json",
            )


def _sampling(
    config: Mapping[str, JsonValue], options: Mapping[str, CallOption]
) -> Sampling | None:
    seed = options.get("seed")
    if seed is None or not config.get("do_sample"):
        return None
    names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
    return Sampling(
        int(seed), **{name: config[name] for name in names if config.get(name) is not None}
    )


def _sequence_biases(config: Mapping[str, JsonValue]) -> list[TokenBias]:
    return [(_as_tuple(tokens), float(bias)) for tokens, bias in config.get("sequence_bias") or ()]


def _bad_words(words: JsonValue, eos: tuple[int, ...]) -> list[TokenBias]:
    sequences = (_as_tuple(word) for word in words or ())
    ends = {(token,) for token in eos}
    return [(word, float("-inf")) for word in sequences if word not in ends]


def _as_tuple(value: JsonValue) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(token) for token in (value if isinstance(value, list | tuple) else [value]))


def _one_token(name: str, config: Mapping[str, JsonValue]) -> int | None:
    """Returns the token that a field forces.

    Raises:
        InputError: It forces several: they are equally likely then, and which one is taken is an accident.
    """
    tokens = _as_tuple(config.get(name))
    if len(tokens) > 1:
        raise InputError(f"{name} with several tokens is not supported", found=str(list(tokens)))
    return tokens[0] if tokens else None


def _forced_ends(config: Mapping[str, JsonValue], *, is_call: bool) -> tuple[int, ...]:
    """Returns the tokens that are forced at the end.

    Raises:
        InputError: A call forces several and has beams: which of the tokens, equally likely then, comes first is an accident.
    """
    name = "forced_eos_token_id"
    if is_call and int(config.get("num_beams") or 1) > 1:
        token = _one_token(name, config)
        return () if token is None else (token,)
    return _as_tuple(config.get(name))


def _texts(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _float_or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
