"""Compares a tokenizer's graph with the tokenizer: on texts on which tokenizers differ, and on every character."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.json_values import read_json
from equipoise.exporters.sentence.modules import split_class_name
from equipoise.exporters.target import Target
from equipoise.exporters.text.tokenizer_spec import read_tokenizer
from equipoise.validators.evaluation.context import EvaluationContext
from equipoise.validators.export.hard_texts import character_texts, hard_texts
from equipoise.validators.models.folder import ModelFolder

WORKER_MODULE = "equipoise.validators.export.text_worker"
"""Called in the worker processes by this name."""
TASKS = ("text-classification", "feature-extraction")
"""Tasks whose answer is a label or a vector; the others' are made of parts of the text."""
_SHOWN_TOKENS = 12
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class TokenizerJudgement:
    """On how many texts the tokenizer's graph gave the tokens of the model's tokenizer.

    Attributes:
        texts: Texts written by hand, with added tokens, and random.
        characters: Characters of Unicode, each within a word and alone.
    """

    texts: int
    characters: int


def judge_tokenizer(context: EvaluationContext, target: Target) -> TokenizerJudgement:
    """Makes a graph of the model's tokenizer and compares its tokens with the tokenizer's own.

    Raises:
        InputError: The task or the tokenizer is not supported, or a text gets other tokens.
    """
    if context.task.name not in TASKS:
        raise InputError(
            f"--with-tokenizer: the answer of {context.task.name} is more than labels or vectors",
            expected=", ".join(TASKS),
            hint="leave out --with-tokenizer",
        )
    _check_sentence_settings(context)
    context.request.progress("tokenizer: making a graph of it")
    path = context.scratch / (
        "tokenizer.onnx" if target.name == "onnx" else "tokenizer_saved_model"
    )
    graph = TokenizerGraph(context, target.name, path)
    worker = context.pool.get("pytorch")
    spec = spec_file(context)
    spec.write_text(json.dumps(asdict(read_tokenizer(context.model.tokenizer))), encoding="utf-8")
    found = worker.call(WORKER_MODULE, "write_tokenizer", spec=str(spec), path=str(path))
    if "reason" in found:
        raise InputError(found["reason"], hint="leave out --with-tokenizer")
    context.request.progress("tokenizer: comparing its tokens")
    texts = hard_texts(found["tokens"])
    graph.compare(texts)
    characters = 0
    for parts in character_texts():
        characters += len(parts)
        if graph.first_difference(["".join(parts)]) is not None:
            graph.compare(parts)
    return TokenizerJudgement(len(texts), characters)


class TokenizerGraph:
    """A program that only tokenizes, beside the model's tokenizer.

    Args:
        context: The model.
        backend: The backend that runs the program.
        path: The program.
    """

    def __init__(self, context: EvaluationContext, backend: str, path: Path) -> None:
        self._tokenizer = context.model.tokenizer
        self._worker = context.pool.get(backend)
        self._path = str(path)

    def compare(self, texts: Sequence[str]) -> None:
        """Compares the tokens of texts.

        Raises:
            InputError: A text gets other tokens.
        """
        index = self.first_difference(texts)
        if index is None:
            return
        text = texts[index]
        raise InputError(
            f"--with-tokenizer: the graph gives {text[:_SHOWN_CHARACTERS]!a} other tokens than the tokenizer",
            expected=self._shown(self._expected([text])[0]),
            found=self._shown(self._found([text])[0]),
            hint="leave out --with-tokenizer",
        )

    def first_difference(self, texts: Sequence[str]) -> int | None:
        """Returns the index of the first text with other tokens; None if all have the same."""
        pairs = zip(self._expected(texts), self._found(texts), strict=True)
        return next((index for index, (theirs, ours) in enumerate(pairs) if theirs != ours), None)

    def _expected(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(list(texts), truncation=False)["input_ids"]
        return found

    def _found(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the tokens that the graph gives, without padding."""
        found = self._worker.call(WORKER_MODULE, "run_program", path=self._path, texts=list(texts))
        return [
            [token for token, is_token in zip(row, mask, strict=True) if is_token]
            for row, mask in zip(found["input_ids"], found["attention_mask"], strict=True)
        ]

    def _shown(self, tokens: Sequence[int]) -> str:
        first = self._tokenizer.convert_ids_to_tokens(list(tokens[:_SHOWN_TOKENS]))
        return " ".join(map(ascii, first))


def _check_sentence_settings(context: EvaluationContext) -> None:
    """Checks that a sentence-transformers folder does nothing to its texts before they are tokenized.

    Raises:
        InputError: It changes case, or has a prompt of its own.
    """
    if not split_class_name(context.class_name)[1]:
        return
    prompts = context.model.path / "config_sentence_transformers.json"
    settings = {
        **sentence_settings(context.model),
        **(read_json(prompts) if prompts.is_file() else {}),
    }
    for name in ("do_lower_case", "default_prompt_name"):
        if settings.get(name):
            raise InputError(
                f"--with-tokenizer: the folder's {name} changes texts before they are tokenized",
                found=str(settings[name]),
                hint="leave out --with-tokenizer",
            )


def sentence_settings(model: ModelFolder) -> Mapping[str, Any]:
    """Returns the settings of a sentence-transformers folder's tokenizer; empty if it has none."""
    path = model.path / "sentence_bert_config.json"
    return read_json(path) if path.is_file() else {}


def spec_file(context: EvaluationContext) -> Path:
    """Returns where what the tokenizer does is written for the worker processes."""
    return context.scratch / "tokenizer_spec.json"
