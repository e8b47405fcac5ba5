"""Speech recognition: Whisper's prompt and segments, and calls of ``pipeline()`` that split audio into chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import Tokenizer
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Runner,
)
from equipoise.validators.generation.generate import generate, generation_settings
from equipoise.validators.generation.whisper import (
    detect_language,
    first_time_token,
    is_whisper,
    next_segment,
    replace_language,
    trim_tokens,
    whisper_config,
    whisper_prompt,
    window_frames,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.parameters.declarations import generation_fields
from equipoise.validators.tasks.base import forward
from equipoise.validators.tasks.shared.audio import (
    chunk_lengths,
    extract_waveform,
    load_audio,
    split_audio,
)
from equipoise.validators.tasks.shared.labels import argmax_margins

LANGUAGE_LOGITS = "language_logits"
"""Name of the output with the logits of the languages that a Whisper chooses from."""


@dataclass(frozen=True)
class Chunk:
    """A part of the audio of a call.

    Attributes:
        arrays: The model's inputs.
        stride: Samples of the part, and those that it shares on the left and right; None: the audio is one part.
    """

    arrays: Arrays
    stride: tuple[int, int, int] | None


def is_ctc(model: ModelFolder) -> bool:
    """Checks whether the model writes with CTC, without a decoder."""
    return model.class_name.endswith("ForCTC")


def with_whisper_prompt(model: ModelFolder, case: Case, arrays: Arrays) -> Arrays:
    """Adds Whisper's prompt to the inputs; where it detects the language, the token of one that it knows stands for it."""
    if not is_whisper(model):
        return arrays
    arrays = {name: value for name, value in arrays.items() if name != "attention_mask"}
    start = np.asarray([whisper_prompt(model, case.options).tokens], dtype=np.int64)
    arrays["decoder_input_ids"] = np.repeat(start, len(arrays["input_features"]), axis=0)
    return arrays


def with_window_note(model: ModelFolder, case: Case) -> Case:
    """Notes that a case's audio is longer than the model's window, and is cut."""
    rate = int(model.feature_extractor.sampling_rate)
    window = int(model.feature_extractor.n_samples)
    longest = max(len(load_audio(model, sample)) for sample in case.samples)
    if longest <= window:
        return case
    note = (
        f"its audio of {longest / rate:.1f} s is cut at the model's window of {window / rate:.1f} s"
    )
    return replace(case, note="; ".join(filter(None, (case.note, note))))


def detect_languages(
    runner: Runner, model: ModelFolder, batch: Batch, follow: Arrays | None
) -> tuple[Batch, Arrays]:
    """Returns a batch with the languages that the model detects, and their logits; those of the reference where it is followed."""
    prompt = whisper_prompt(model, batch.case.options)
    if prompt.language_at is None:
        return batch, {}
    features = batch.arrays["input_features"][:, :, : window_frames(model)]
    logits = detect_language(runner, features, prompt)
    chosen = np.asarray(prompt.language_ids)[logits.argmax(axis=-1)]
    if follow is not None:
        chosen = follow["sequences"][:, prompt.language_at]
    arrays = replace_language(batch.arrays, prompt, chosen)
    return replace(batch, arrays=arrays), {LANGUAGE_LOGITS: logits}


def language_decisions(model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
    """Returns the language of every sample, where the model detects it."""
    if LANGUAGE_LOGITS not in outputs:
        return []
    ids = whisper_prompt(model, batch.case.options).language_ids
    names = model.tokenizer.convert_ids_to_tokens(list(ids))
    return [
        Decision("language", names[int(row.argmax())], LANGUAGE_LOGITS, index, argmax_margins(row))
        for index, row in enumerate(outputs[LANGUAGE_LOGITS])
    ]


def encode_call(model: ModelFolder, case: Case) -> Batch:
    """Encodes the audio of one sample, split into chunks where the call says so.

    Raises:
        InputError: An option does not fit the model, or the audio is longer than the model's window and times are refused.
    """
    _check_timestamps(model, case)
    (sample,) = case.samples
    audio = load_audio(model, sample)
    rate = int(model.feature_extractor.sampling_rate)
    seconds = case.options.get("chunk_length_s")
    if seconds:
        lengths = chunk_lengths(
            float(seconds), case.options.get("stride_length_s"), rate, samples_per_frame(model)
        )
        parts = [
            Chunk(extract_waveform(model, part), stride)
            for part, stride in split_audio(audio, *lengths)
        ]
    elif is_whisper(model) and len(audio) > int(model.feature_extractor.n_samples):
        case = _with_long_form(model, case, len(audio) / rate)
        parts = [Chunk(extract_waveform(model, audio, truncation=False, padding="longest"), None)]
    else:
        parts = [Chunk(extract_waveform(model, audio), None)]
    return Batch(case, parts[0].arrays, context={"parts": parts})


def run_call(runner: Runner, model: ModelFolder, batch: Batch) -> Arrays:
    """Runs the chunks of a call one by one; returns the tokens of chunk 0 as ``0``, and so on (1, tokens)."""
    found = {}
    for index, part in enumerate(batch.context["parts"]):
        one = replace(batch, arrays=part.arrays)
        if is_ctc(model):
            tokens = forward(runner, one)["logits"].argmax(axis=-1)
        elif is_whisper(model):
            tokens = np.asarray([_transcribe(runner, model, one)], dtype=np.int64)
        else:
            tokens = generate(runner, model, one.arrays, batch.case.options)["sequences"]
        found[str(index)] = tokens
    return found


def decode_call(
    model: ModelFolder, batch: Batch, outputs: Arrays, options: Mapping[str, CallOption]
) -> Answer:
    """Returns ``{"text"}``, and ``chunks`` with the times of characters, words or segments.

    Raises:
        InputError: An option does not fit the model.
    """
    parts: list[Chunk] = batch.context["parts"]
    tokens = [outputs[str(index)] for index in range(len(parts))]
    strides = [part.stride for part in parts]
    if options.get("return_language") is not None and not is_whisper(model):
        raise InputError("only Whisper tells the language", found="return_language")
    if is_whisper(model):
        return _decode_whisper(model, batch.case, tokens, strides, options)
    if not is_ctc(model):
        ids = longest_common_sequence(tokens, model.tokenizer) if strides[0] else tokens[0][0]
        return {"text": str(model.tokenizer.decode(ids, skip_special_tokens=True))}
    frame = samples_per_frame(model)
    ids = np.concatenate(
        [
            _without_shared(row[0], stride, frame)
            for row, stride in zip(tokens, strides, strict=True)
        ]
    )
    result: dict[str, Answer] = {
        "text": str(model.tokenizer.decode(ids, skip_special_tokens=False))
    }
    if unit := batch.case.options.get("return_timestamps"):
        result["chunks"] = _ctc_chunks(model, ids, str(unit))
    return result


def samples_per_frame(model: ModelFolder) -> int:
    """Returns how many samples a frame of a CTC model has; 1 for others."""
    return int(np.prod(model.config.get("conv_stride") or [1]))


def longest_common_sequence(parts: Sequence[Array], tokenizer: Tokenizer) -> Array:
    """Returns the tokens of all chunks, each without what it repeats of those before it."""
    special = set(tokenizer.all_special_ids)
    rows = [[token for token in row[0].tolist() if token not in special] for row in parts]
    joined = rows[0]
    for row in rows[1:]:
        best, index = 0.0, 0
        for length in range(1, len(row) + 1):
            tail = joined[-length:]
            if len(tail) != length:
                break
            matches = sum(one == other for one, other in zip(tail, row[:length], strict=True))
            # Longer matches win over shorter ones of the same share.
            share = matches / length + length / 10000.0
            if matches > 1 and share > best:
                best, index = share, length
        joined = [*joined, *row[index:]]
    return np.asarray(joined)


def _check_timestamps(model: ModelFolder, case: Case) -> None:
    """Checks the kind of times that a call asks for.

    Raises:
        InputError: The model cannot tell them.
    """
    unit = case.options.get("return_timestamps")
    if unit is None:
        return
    if is_ctc(model):
        known: tuple[CallOption, ...] = ("char", "word")
    elif is_whisper(model):
        known = (True, False)
        if unit == "word":
            raise InputError(
                "times of words need the attentions of Whisper, which programs do not give",
                hint="return_timestamps=true gives those of segments",
            )
    else:
        known = (False,)
    if not any(unit is one or (unit == one and isinstance(unit, str)) for one in known):
        raise InputError(
            "the model cannot tell these times",
            found=str(unit),
            expected=", ".join(map(str, known)),
        )


def _with_long_form(model: ModelFolder, case: Case, seconds: float) -> Case:
    """Returns a case of audio beyond the model's window, which Whisper writes segment by segment with times.

    Raises:
        InputError: The call or the config refuses times.
    """
    config = whisper_config(model, case.options)
    if config.get("return_timestamps") is False:
        rate = int(model.feature_extractor.sampling_rate)
        window = int(model.feature_extractor.n_samples) / rate
        raise InputError(
            f"the audio has {seconds:.1f} s, and the model hears {window:.1f} s at a time",
            hint="return_timestamps=true writes it segment by segment, chunk_length_s in chunks",
        )
    given = case.options.get("return_timestamps")
    changed = {"return_timestamps": True, "is_long_form": True, "given_timestamps": given}
    return replace(case, options={**case.options, **changed})


def _transcribe(runner: Runner, model: ModelFolder, batch: Batch) -> list[int]:
    """Returns the tokens of all segments, without prompts."""
    options = _whisper_options(model, batch.case)
    features, window = batch.arrays["input_features"], window_frames(model)
    prompt = whisper_prompt(model, options)
    tokens = np.asarray([prompt.tokens], dtype=np.int64)
    if prompt.language_at is not None:
        logits = detect_language(runner, features[:, :, :window], prompt)
        tokens[:, prompt.language_at] = prompt.language_ids[int(logits[0].argmax())]
    _check_decoder_length(model, options, tokens.shape[1])
    written: list[int] = []
    first_time = first_time_token(model)
    seek, total = 0, features.shape[-1]
    while seek < total:
        frames = min(total - seek, window)
        part = features[:, :, seek : seek + frames]
        part = np.pad(part, ((0, 0), (0, 0), (0, window - frames)))
        arrays = {"input_features": part, "decoder_input_ids": tokens}
        row = generate(runner, model, arrays, options)["sequences"][0, tokens.shape[1] :]
        held, step = next_segment(trim_tokens(row, model.generation_config), first_time, frames)
        written += held
        seek += step
        if step <= 0:
            break  # a time that does not move on would repeat for ever
    return written


def _whisper_options(model: ModelFolder, case: Case) -> Mapping[str, CallOption]:
    """Returns the options of generation.

    Whisper draws tokens only where a temperature says so. It calls generate() with a config, in which a value that is
    everybody's default counts as not given: the model's own goes before it.
    """
    options = dict(case.options)
    for name, parameter in generation_fields().items():
        own = model.generation_config.get(name)
        if name in options and options[name] == parameter.off and own is not None:
            options[name] = own
    temperature = options.get("temperature")
    options["do_sample"] = bool(temperature)
    if temperature:
        options["num_beams"] = 1
        if options.get("seed") is None:
            raise InputError(
                "sampling is not supported without a seed",
                hint="--option seed=1, or no temperature",
            )
    return options


def _check_decoder_length(
    model: ModelFolder, options: Mapping[str, CallOption], length: int
) -> None:
    new = generation_settings(model, options).max_new_tokens or 0
    limit = int(model.config.get("max_target_positions", 448))
    if new + length > limit:
        raise InputError(
            f"the prompt has {length} tokens and max_new_tokens is {new}, and the decoder has {limit} positions",
            hint=f"max_new_tokens of at most {limit - length}",
        )


def _decode_whisper(
    model: ModelFolder,
    case: Case,
    tokens: Sequence[Array],
    strides: Sequence[tuple[int, int, int] | None],
    options: Mapping[str, CallOption],
) -> Answer:
    extractor = model.feature_extractor
    rate = int(extractor.sampling_rate)
    outputs: list[dict[str, Any]] = []
    for row, stride in zip(tokens, strides, strict=True):
        one: dict[str, Any] = {"tokens": row}
        if stride is not None:
            one["stride"] = tuple(length / rate for length in stride)
        outputs.append(one)
    times = case.options.get("return_timestamps")
    if case.options.get("is_long_form"):
        times = case.options.get("given_timestamps")
    text, more = model.tokenizer._decode_asr(
        outputs,
        return_timestamps=times or model.generation_config.get("return_timestamps"),
        return_language=options.get("return_language"),
        time_precision=extractor.chunk_length / int(model.config["max_source_positions"]),
    )
    return {"text": text, **more}


def _without_shared(ids: Array, stride: tuple[int, int, int] | None, frame: int) -> Array:
    """Returns the frames of a chunk without those that it shares with others."""
    if stride is None:
        return ids
    length, left, right = stride
    frames = round(length / frame)
    first = round(left / length * frames)
    return ids[first : frames - round(right / length * frames)]


def _ctc_chunks(model: ModelFolder, ids: Array, unit: str) -> list[dict[str, Answer]]:
    """Returns characters or words with the seconds of their start and end."""
    tokenizer = model.tokenizer
    offsets = tokenizer.decode(ids, output_char_offsets=True, skip_special_tokens=False)[
        "char_offsets"
    ]
    if unit == "word":
        offsets = tokenizer._get_word_offsets(offsets, tokenizer.replace_word_delimiter_char)
    frame, rate = samples_per_frame(model), int(model.feature_extractor.sampling_rate)
    return [
        {
            "text": chunk[unit],
            "timestamp": tuple(
                chunk[name] * frame / rate for name in ("start_offset", "end_offset")
            ),
        }
        for chunk in offsets
    ]
