"""Compares the files beside a program (config, tokenizer, processor) with those of the model: from raw input to answer.

A program with the right weights answers wrongly with another tokenizer, other names of labels, or an image processor that
normalizes otherwise; `equipoise run` uses the files beside the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.checkpoints.companion_files import companion_files
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.hashing import hash_file
from equipoise.validators.core.types import Batch
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.judgement.results import to_json_value
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.sources import ModelSource

_FOLDERS_ABOVE = 2
"""How far a program lies below its config: a SavedModel in ``saved_model/1``."""
_DECODING_FIELDS = ("problem_type", "task_specific_params")
"""Fields of ``config.json`` that decide how outputs are decoded, besides the names of labels."""
_UNUSED_SETTINGS = frozenset(("transformers_version", "_from_model_config", "cache_implementation"))
_TOKENIZER_SETTINGS = ("padding_side", "truncation_side", "model_max_length", "pad_token")
_PROBES = (
    "An UPPER and MiXeD Case, 3.50 dollars (or 2,000)!",
    "Straße, café naïve — İzmir, Ωmega",
    "tabs\tand  two spaces\nand a new line",
    "日本語 and 中文, ﬁne ½ 🙂",
    "don't re-enter <b>bold</b> user@example.org #1",
)
"""Texts that tokenizers treat differently: letters of both cases, accents, spaces, scripts, signs. Samples may have none."""
_SHOWN = 3


def compare_companions(
    context: EvaluationContext, source: ModelSource, measured: Sequence[ReferenceOutputs]
) -> tuple[str, ...]:
    """Returns what differs between an artifact's companion files and the model's where it changes an answer.

    Files of equal bytes are not looked at. Else the raw samples are encoded with the artifact's own files and compared as
    arrays, the reference's outputs are decoded with them and compared as answers, and what samples cannot show is compared
    as it is written: names of labels, the vocabulary, settings of generation.
    """
    folder = find_companion_folder(source.path)
    if folder is None or folder == context.model.path or not _differ(folder, context.model.path):
        return ()
    try:
        own = ModelFolder(folder)
        found = [*_settings(own, context.model), *_tokenizer(own, context.model)]
        if _can_encode(own, context.model):
            found += _answers(context, own, measured)
    except (EquipoiseError, KeyError, ValueError, TypeError) as error:
        text = error.message if isinstance(error, EquipoiseError) else repr(error)
        return (f"the files beside the program cannot be used: {text.splitlines()[0]}",)
    return tuple(dict.fromkeys(found))


def find_companion_folder(path: Path) -> Path | None:
    """Returns the folder with the ``config.json`` that belongs to a program; None for a program alone."""
    folders = (path, *path.parents)[: _FOLDERS_ABOVE + 1]
    return next((one for one in folders if (one / "config.json").is_file()), None)


def _differ(folder: Path, other: Path) -> bool:
    """Whether a companion file of the first folder has other bytes in the second, or is not there."""
    return any(
        not (other / path.name).is_file() or hash_file(path) != hash_file(other / path.name)
        for path in companion_files(folder)
    )


def _settings(own: ModelFolder, model: ModelFolder) -> Iterator[str]:
    """Yields differences in how outputs are decoded."""
    yield from _differences("id2label", own.labels, model.labels)
    for name in _DECODING_FIELDS:
        if own.config.get(name) != model.config.get(name):
            yield f"{name}: {own.config.get(name)!r} where the model has {model.config.get(name)!r}"
    if (own.path / "generation_config.json").is_file():
        pair = (own.generation_config, model.generation_config)
        mine, theirs = (
            {
                key: one
                for key, one in values.items()
                if key not in _UNUSED_SETTINGS and one is not None
            }
            for values in pair
        )
        yield from _differences("generation_config", mine, theirs)


def _tokenizer(own: ModelFolder, model: ModelFolder) -> Iterator[str]:
    """Yields differences between the vocabularies and settings, and between what texts are encoded to that no sample has."""
    if not (own.has_tokenizer and model.has_tokenizer):
        return
    yield from _differences("vocabulary", own.tokenizer.get_vocab(), model.tokenizer.get_vocab())
    mine, theirs = (
        {name: getattr(one.tokenizer, name, None) for name in _TOKENIZER_SETTINGS}
        for one in (own, model)
    )
    yield from _differences("tokenizer", mine, theirs)
    for text in _PROBES:
        ids, expected = (one.tokenizer(text, verbose=False)["input_ids"] for one in (own, model))
        if ids != expected:
            yield f"tokenizer: {text!r} is encoded to {str(ids)[:60]} for {str(expected)[:60]}"
            return


def _can_encode(own: ModelFolder, model: ModelFolder) -> bool:
    """Whether a folder has all that the model encodes samples with; `run` refuses one that has not."""
    parts = ("has_tokenizer", "has_image_processor", "has_feature_extractor")
    return all(getattr(own, part) or not getattr(model, part) for part in parts)


def _differences(what: str, own: Mapping[Any, Any], model: Mapping[Any, Any]) -> Iterator[str]:
    """Yields one line for a table that differs, with its first entries."""
    names = [name for name in dict.fromkeys((*model, *own)) if own.get(name) != model.get(name)]
    if names:
        shown = ", ".join(
            f"{name!r}: {own.get(name)!r} for {model.get(name)!r}" for name in names[:_SHOWN]
        )
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{what} differs: {shown}{more}"


def _answers(
    context: EvaluationContext, own: ModelFolder, measured: Sequence[ReferenceOutputs]
) -> Iterator[str]:
    """Yields differences in what the samples are encoded to, and in what the reference's outputs are decoded to."""
    for one in measured:
        case = one.batch.case
        encoded = context.task.encode(own, case)
        if changed := _changed_inputs(encoded, one.batch):
            yield f"{case.name}: its files encode the samples to other {', '.join(changed)}"
            continue
        if case.options.get("cache") or case.options.get("num_beams"):
            continue  # decoded from the same outputs as the plain case
        mine = to_json_value(context.task.decode(own, encoded, one.reference))
        theirs = to_json_value(context.task.decode(context.model, one.batch, one.reference))
        if mine != theirs:
            yield f"{case.name}: its files decode the same outputs to another answer: {_first_change(mine, theirs)}"


def _changed_inputs(encoded: Batch, expected: Batch) -> list[str]:
    """Returns the names of arrays that differ."""
    names = dict.fromkeys((*expected.arrays, *encoded.arrays))
    return [
        name
        for name in names
        if name not in encoded.arrays
        or name not in expected.arrays
        or not np.array_equal(
            encoded.arrays[name], expected.arrays[name], equal_nan=_is_float(encoded, name)
        )
    ]


def _is_float(batch: Batch, name: str) -> bool:
    return batch.arrays[name].dtype.kind == "f"


def _first_change(own: object, model: object) -> str:
    pairs = (
        zip(own, model, strict=False) if isinstance(own, list) and isinstance(model, list) else ()
    )
    mine, theirs = next(((a, b) for a, b in pairs if a != b), (own, model))
    return f"{str(mine)[:80]} for {str(theirs)[:80]}"
