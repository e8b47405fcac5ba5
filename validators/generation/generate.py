"""The generation loop: greedy or beam search, on any :class:`Runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import PIPELINE, Array, Arrays, CallOption, Runner
from equipoise.validators.generation.beam_search import beam_search
from equipoise.validators.generation.decoder_inputs import DecoderInputs
from equipoise.validators.generation.logits_processors import normalize_scores, process_logits
from equipoise.validators.generation.read_settings import pipeline_config, read_settings
from equipoise.validators.generation.sampling import TokenSampler
from equipoise.validators.generation.settings import GenerationSettings
from equipoise.validators.generation.stop_strings import StopStrings
from equipoise.validators.generation.teacher_forcing import OPTION as TEACHER_FORCING
from equipoise.validators.generation.teacher_forcing import (
    ForcedLogits,
    StepLogits,
    score_sequences,
)
from equipoise.validators.generation.whisper import is_whisper, time_rules
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.positions import decoder_positions


def generate(
    runner: Runner,
    model: ModelFolder,
    arrays: Mapping[str, Array],
    options: Mapping[str, CallOption],
    follow: Arrays | None = None,
    **kwargs: CallOption,
) -> Arrays:
    """Generates text.

    Args:
        runner: The model.
        model: Its folder, for ``generation_config.json``.
        arrays: Its inputs.
        options: ``cache`` and ``teacher_forcing`` of a case, and fields of a generation config: ``num_beams`` ...
        follow: The reference's outputs. Greedy search continues with their tokens, so that its logits can be compared
            step by step, and returns its own choices as ``sequences``. With teacher forcing all tokens are followed in
            one forward pass, and instead of a beam search their scores are computed; gaps are then the reference's.
        kwargs: Further keyword arguments of the model's forward.

    Returns:
        ``sequences`` with the prompts. Greedy search adds ``logits`` (samples, steps, vocabulary) before logits
        processors, zero after the end of a sample. Beam search adds ``sequences_scores`` and ``sequences_gaps``.
    """
    settings = generation_settings(model, options)
    vocabulary = _decoder_vocabulary(model) if PIPELINE in options else None
    arrays = with_prompt(runner, arrays, settings, vocabulary)
    settings = _with_encoder_tokens(settings, arrays)
    is_forced = follow is not None and bool(options.get(TEACHER_FORCING))
    rows = max(settings.num_beams, settings.num_return_sequences)
    decoder = DecoderInputs(
        runner,
        arrays,
        kwargs,
        repeat=1 if is_forced else rows,
        cache=bool(options.get("cache")) and not is_forced,
        positions=not _has_multi_axis_positions(model),
        limit=decoder_positions(model) if PIPELINE in options else None,
    )
    prompt = prompt_tokens(arrays)
    settings.check_prompt(prompt.shape[1])
    if is_forced and follow is not None:
        sequences, length = follow["sequences"], prompt.shape[1]
        forced = ForcedLogits(decoder, sequences, length)
        if settings.num_beams > 1:
            return {**follow, **score_sequences(forced, sequences, length, settings)}
        return _greedy_search(forced, prompt, settings, follow)
    stop = StopStrings(model.tokenizer, settings.stop_strings) if settings.stop_strings else None
    if settings.num_beams > 1:
        return beam_search(decoder, prompt, settings, stop)
    return _greedy_search(decoder, np.repeat(prompt, rows, axis=0), settings, follow, stop)


def generation_settings(
    model: ModelFolder, options: Mapping[str, CallOption]
) -> GenerationSettings:
    """Returns the settings of the folder's generation config; options of a case override them.

    The option ``pipeline`` of a case (``{"defaults", "task"}``) adds what the pipeline of that task sets itself.
    """
    config = {**model.generation_config}
    text = model.config.get("text_config") or model.config.get("decoder") or {}
    config.setdefault(
        "max_position_embeddings",
        model.config.get("max_position_embeddings", text.get("max_position_embeddings")),
    )
    if PIPELINE in options:
        call = options[PIPELINE]
        params = _task_params(model, str(call["task"]))
        config = pipeline_config(config, call["defaults"], params)
        if config.get("pad_token_id") is None and model.has_tokenizer:
            config["pad_token_id"] = model.tokenizer.pad_token_id
    settings = read_settings(config, options)
    return replace(settings, times=time_rules(model, options)) if is_whisper(model) else settings


def _decoder_vocabulary(model: ModelFolder) -> int | None:
    """Returns how many tokens the decoder knows; None if its config does not say."""
    config = model.config.get("decoder") or model.config.get("text_config") or model.config
    size = config.get("decoder_vocab_size") or config.get("vocab_size")
    return None if size is None else int(size)


def _task_params(model: ModelFolder, task: str) -> Mapping[str, CallOption]:
    """Returns the config's parameters of a task; a bare ``translation`` is the first of them, as in ``pipeline()``."""
    tasks = model.config.get("task_specific_params") or {}
    if task == "translation":
        task = next((name for name in tasks if name.startswith("translation")), task)
    return tasks.get(task) or {}


def _with_encoder_tokens(
    settings: GenerationSettings, arrays: Mapping[str, Array]
) -> GenerationSettings:
    """Adds the input's tokens where a setting looks at them; audio and images have none, as in transformers."""
    looks = settings.encoder_no_repeat_ngram_size or settings.encoder_repetition_penalty != 1.0
    if not looks or "input_ids" not in arrays:
        return settings
    rows = tuple(tuple(row) for row in arrays["input_ids"].tolist())
    return replace(settings, encoder_tokens=rows)


def with_prompt(
    runner: Runner,
    arrays: Mapping[str, Array],
    settings: GenerationSettings,
    vocabulary: int | None,
) -> Arrays:
    """Adds ``decoder_input_ids`` with the start token if the model has an encoder and the inputs lack them.

    Args:
        runner: The model.
        arrays: Its inputs.
        settings: The settings, which name the token.
        vocabulary: How many tokens the decoder knows; None is not checked.

    Raises:
        InputError: The settings name no start token, several, or one beyond the vocabulary.
    """
    if "decoder_input_ids" in arrays or "decoder_input_ids" not in runner.accepts:
        return dict(arrays)
    samples = len(next(iter(arrays.values())))
    if len(settings.start_token_ids) != 1:
        raise InputError(
            "the decoder starts with one token: decoder_start_token_id, or else bos_token_id",
            found=str(list(settings.start_token_ids)) if settings.start_token_ids else "none",
        )
    (start,) = settings.start_token_ids
    if vocabulary is not None and not 0 <= start < vocabulary:
        raise InputError(
            "the decoder cannot start with a token beyond the vocabulary (decoder_start_token_id, or bos_token_id)",
            found=start,
            expected=f"less than {vocabulary}",
        )
    return {**arrays, "decoder_input_ids": np.full((samples, 1), start, dtype=np.int64)}


def prompt_tokens(arrays: Mapping[str, Array]) -> Array:
    """Returns the tokens that generation continues from."""
    return arrays["decoder_input_ids" if "decoder_input_ids" in arrays else "input_ids"]


def greedy_margins(
    settings: GenerationSettings, sequences: Array, logits: Array, padding: Array | None = None
) -> list[Array]:
    """Returns the margin of each generated token: half the difference of the two best scores.

    Scores are those after logits processors. A repetition penalty can enlarge an error of the logits by its factor, so
    the margins are divided by it.
    """
    prompt_length = sequences.shape[1] - logits.shape[1]
    margins = np.empty(logits.shape[:2])
    for step in range(logits.shape[1]):
        scores = process_logits(
            settings, sequences[:, : prompt_length + step], logits[:, step], prompt_length, padding
        )
        top = np.sort(scores, axis=-1)[:, -2:]
        margins[:, step] = (top[:, 1] - top[:, 0]) / 2
    factor = max(settings.repetition_penalty, 1 / settings.repetition_penalty)
    tokens_of_samples = generated_tokens(settings, sequences, prompt_length)
    return [
        row[: len(tokens)] / factor for row, tokens in zip(margins, tokens_of_samples, strict=True)
    ]


def generated_tokens(
    settings: GenerationSettings, sequences: Array, prompt_length: int
) -> list[list[int]]:
    """Returns the tokens that were generated for each sample, up to its end token."""
    generated = []
    for row in sequences[:, prompt_length:].tolist():
        ends = [index + 1 for index, token in enumerate(row) if token in settings.eos_token_ids]
        generated.append(row[: ends[0]] if ends else row)
    return generated


def _greedy_search(
    decoder: StepLogits,
    prompt: Array,
    settings: GenerationSettings,
    follow: Arrays | None,
    stop: StopStrings | None = None,
) -> Arrays:
    sequences, choices = prompt, prompt
    sampler = TokenSampler(settings, settings.sampling) if settings.sampling else None
    alive = np.ones(len(prompt), dtype=bool)
    logits: list[Array] = []
    while alive.any() and sequences.shape[1] < settings.max_total_length(prompt.shape[1]):
        step_logits = decoder(sequences)
        scores = process_logits(settings, sequences, step_logits, prompt.shape[1], decoder.padding)
        best = _choose(settings, scores, sampler)
        next_tokens = np.where(alive, best, settings.pad_token_id)
        # After the end of a sample its logits mean nothing.
        logits.append(np.where(alive[:, None], step_logits, 0).astype(step_logits.dtype))
        choices = np.concatenate([choices, next_tokens[:, None]], axis=1)
        if follow is not None:
            next_tokens = follow["sequences"][:, sequences.shape[1]]
        sequences = np.concatenate([sequences, next_tokens[:, None]], axis=1)
        alive &= ~np.isin(next_tokens, settings.eos_token_ids)
        if stop is not None:
            alive &= ~np.asarray(stop(sequences))
    return {"logits": np.stack(logits, axis=1), "sequences": choices}


def _choose(settings: GenerationSettings, scores: Array, sampler: TokenSampler | None) -> Array:
    """Returns the next token of each row: the best one, or one that is drawn."""
    if sampler is None:
        return np.asarray(scores.argmax(axis=-1))
    return sampler.draw(normalize_scores(settings, sampler.warp(scores)))


def _has_multi_axis_positions(model: ModelFolder) -> bool:
    """Checks whether positions have axes for time, height and width, which only the model can compute."""
    for config in (model.config, model.config.get("text_config") or {}):
        for name in ("rope_scaling", "rope_parameters"):
            if "mrope_section" in (config.get(name) or {}):
                return True
    return False
