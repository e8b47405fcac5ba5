"""Groups labels of tokens into entities, as ``pipeline()`` does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Answer, Array
from equipoise.validators.models.folder import ModelFolder

Entity = dict[str, Answer]
AGGREGATION_STRATEGIES = ("none", "simple", "first", "average", "max")


def token_entities(
    model: ModelFolder, text: str, ids: Array, scores: Array, offsets: Array | None, special: Array
) -> list[Entity]:
    """Returns the tokens with their probabilities and positions in the text."""
    entities = []
    for index, row in enumerate(scores):
        if special[index]:
            continue
        word = model.tokenizer.convert_ids_to_tokens(int(ids[index]))
        start, end, subword = None, None, False
        if offsets is not None:
            start, end = (int(offset) for offset in offsets[index])
            subword = _is_subword(model, text, word, start, end)
            if int(ids[index]) == model.tokenizer.unk_token_id:
                word, subword = text[start:end], False
        entities.append({"word": word, "scores": row, "start": start, "end": end, "index": index,
                      "is_subword": subword})  # fmt: skip
    return entities


def aggregate_entities(model: ModelFolder, tokens: list[Entity], strategy: str) -> list[Entity]:
    """Returns the entities of tokens.

    Labels are those of tokens (``none``, ``simple``) or of words (``first``, ``average``, ``max``); all but ``none``
    merge adjacent ones with equal labels.

    Raises:
        InputError: There is no such strategy.
    """
    strategy = strategy.lower()
    if strategy not in AGGREGATION_STRATEGIES:
        raise InputError(
            "no such aggregation_strategy",
            found=strategy,
            expected=", ".join(AGGREGATION_STRATEGIES),
        )
    if strategy in ("none", "simple"):
        entities = [_token_entity(model, token) for token in tokens]
    else:
        entities = [_word_entity(model, word, strategy) for word in _group_subwords(tokens)]
    return entities if strategy == "none" else _merge_entities(model, entities)


def merge_overlapping(entities: Sequence[Entity]) -> list[Entity]:
    """Returns the entities of the parts of a text; of those that overlap the longest stays, or the one with the best score.

    As in pipeline(), the first entity is compared with itself too: one without a character is there twice.
    """
    ordered = sorted(entities, key=lambda one: one["start"])
    merged = ordered[:1]
    for entity in ordered:
        if not merged[-1]["start"] <= entity["start"] < merged[-1]["end"]:
            merged.append(entity)
            continue
        lengths = [one["end"] - one["start"] for one in (entity, merged[-1])]
        is_better = lengths[0] == lengths[1] and entity["score"] > merged[-1]["score"]
        if lengths[0] > lengths[1] or is_better:
            merged[-1] = entity
    return merged


def _is_subword(model: ModelFolder, text: str, word: str, start: int, end: int) -> bool:
    backend = getattr(model.tokenizer, "_tokenizer", None)
    if backend and getattr(backend.model, "continuing_subword_prefix", None):
        return len(word) != end - start
    return start > 0 and " " not in text[start - 1 : start + 1]


def _token_entity(model: ModelFolder, token: Entity) -> Entity:
    best = int(token["scores"].argmax())
    return {
        "entity": model.labels[best],
        "score": float(token["scores"][best]),
        **{name: token[name] for name in ("index", "word", "start", "end")},
    }


def _group_subwords(tokens: list[Entity]) -> list[list[Entity]]:
    words: list[list[Entity]] = []
    for token in tokens:
        if words and token["is_subword"]:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _word_entity(model: ModelFolder, tokens: list[Entity], strategy: str) -> Entity:
    if strategy == "first":
        scores = tokens[0]["scores"]
    elif strategy == "max":
        scores = max(tokens, key=lambda token: token["scores"].max())["scores"]
    else:
        scores = np.mean([token["scores"] for token in tokens], axis=0)
    best = int(scores.argmax())
    return {
        "entity": model.labels[best],
        "score": float(scores[best]),
        "word": model.tokenizer.convert_tokens_to_string([token["word"] for token in tokens]),
        "start": tokens[0]["start"],
        "end": tokens[-1]["end"],
    }


def _split_tag(name: str) -> tuple[str, str]:
    begin, _, rest = name.partition("-")
    return (begin, rest) if begin in ("B", "I") and rest else ("I", name)


def _merge_entities(model: ModelFolder, entities: Sequence[Entity]) -> list[Entity]:
    groups: list[list[Entity]] = []
    for entity in entities:
        begin, tag = _split_tag(entity["entity"])
        if groups and begin != "B" and tag == _split_tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [_merge_group(model, group) for group in groups]


def _merge_group(model: ModelFolder, entities: list[Entity]) -> Entity:
    return {
        "entity_group": entities[0]["entity"].split("-", 1)[-1],
        "score": float(np.mean([entity["score"] for entity in entities])),
        "word": model.tokenizer.convert_tokens_to_string([entity["word"] for entity in entities]),
        "start": entities[0]["start"],
        "end": entities[-1]["end"],
    }
