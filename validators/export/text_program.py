"""Adds to an artifact a program that takes texts, once its tokenizer has been compared with the model's on hard texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from sys import executable
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError, WorkerError
from equipoise.convert.core.hints import install_hint
from equipoise.exporters.artifact_files import TEXT_PROGRAM, TEXT_SAVED_MODEL, TRANSFORMERS_JS
from equipoise.exporters.sentence.modules import split_class_name
from equipoise.exporters.target import Target
from equipoise.validators.core.types import Batch, Case
from equipoise.validators.evaluation.context import EvaluationContext
from equipoise.validators.export.hard_texts import hard_texts
from equipoise.validators.export.tokenizer_judgement import (
    WORKER_MODULE,
    TokenizerJudgement,
    sentence_settings,
    spec_file,
)
from equipoise.validators.models.positions import encoder_positions
from equipoise.validators.runtime.interpreters import find_interpreter
from equipoise.validators.tasks.base import load_samples
from equipoise.validators.tasks.text_classification import TextClassification


@dataclass(frozen=True)
class TextTarget:
    """What a target needs for programs that take texts.

    Attributes:
        program: The program in the artifact.
        library: The package with operators of tokenizers.
        extra: The extra that installs it.
        options: Options of the target that go with it: weights outside of the program from tokens are shared.
    """

    program: str
    library: str
    extra: str
    options: Mapping[str, object] = field(default_factory=dict)


TEXT_TARGETS = {
    "onnx": TextTarget(TEXT_PROGRAM, "onnxruntime-extensions", "onnx-text", {"external": True}),
    "saved-model": TextTarget(TEXT_SAVED_MODEL, "tensorflow-text", "tensorflow-text"),
}
MAX_RELATIVE_ERROR = {"float32": 1e-5}
"""Largest difference between the program from texts and the one from tokens, relative to the largest value."""
_HALF_PRECISION_ERROR = 1e-2
_NO_LIMIT = 1 << 30
"""Longer limits are transformers' way to say that there is none."""
_TEXTS_OF_MODEL = 40


def check_text_options(
    target: Target,
    options: Mapping[str, object],
    sizes: Mapping[str, int],
    interpreters: Mapping[str, str],
) -> None:
    """Checks that a target can have a program that takes texts, and that its operators are installed.

    Raises:
        InputError: The message says what to leave out or to install.
    """
    if not options.get("with_tokenizer"):
        return
    if target.name not in TEXT_TARGETS:
        raise InputError(
            f"{target.name} has no program that takes texts",
            expected=", ".join(TEXT_TARGETS),
            hint="leave out --with-tokenizer",
        )
    if options.get("layout") == TRANSFORMERS_JS:
        raise InputError(
            "transformers.js tokenizes in JavaScript, and its runtime lacks the operators of a tokenizer",
            hint="leave out --with-tokenizer or --layout transformers.js",
        )
    if sizes:
        raise InputError(
            "texts have any number of tokens, and a program of a fixed size takes one",
            found=", ".join(f"--{name} {size}" for name, size in sizes.items()),
            hint="leave out --with-tokenizer, or the sizes",
        )
    needed = TEXT_TARGETS[target.name]
    is_here = find_interpreter(target.name, interpreters) == Path(executable)
    if is_here and not find_spec(needed.library.replace("-", "_")):
        raise InputError(
            f"--with-tokenizer needs {needed.library}", hint=install_hint(needed.extra)
        )


def target_options(target: Target, options: Mapping[str, object]) -> dict[str, object]:
    """Returns the options of an export with those that a program from texts needs."""
    more = TEXT_TARGETS[target.name].options if options.get("with_tokenizer") else {}
    return {**options, **more}


def add_text_program(
    context: EvaluationContext,
    target: Target,
    folder: Path,
    program: Path,
    judgement: TokenizerJudgement,
) -> dict[str, Any]:
    """Writes the program that takes texts and compares its answers with those of the program that takes tokens.

    Args:
        context: The model and its task.
        target: The target.
        folder: The artifact.
        program: Its program that takes tokens.
        judgement: That of its tokenizer.

    Returns:
        The section of ``artifact.json``.

    Raises:
        InputError: The model has inputs beside the tokens of a text.
        WorkerError: The answers differ.
    """
    if not program.is_file() and not (program / "saved_model.pb").is_file():
        raise InputError(
            "--with-tokenizer: the model has several graphs", hint="leave out --with-tokenizer"
        )
    labels, activation = _labels(context)
    limit = max_text_length(context)
    needed = TEXT_TARGETS[target.name]
    path = folder / needed.program
    reason = context.pool.get("pytorch").call(
        WORKER_MODULE,
        "write_program",
        spec=str(spec_file(context)),
        program=str(program),
        path=str(path),
        limit=limit,
        labels=labels,
        activation=activation,
    )
    if reason:
        raise InputError(reason, hint="leave out --with-tokenizer")
    samples = [str(one["text"]) for one in load_samples(context.task, context.model)]
    texts = [*samples, *hard_texts(())[:_TEXTS_OF_MODEL]]
    error = _compare_answers(context, target.name, program, path, texts, limit)
    outputs = context.pool.get(target.name).call(WORKER_MODULE, "describe_program", path=str(path))
    return {
        "file": needed.program,
        "needs": needed.library,
        "max_tokens": limit,
        **outputs,
        "judged": {
            "texts": judgement.texts,
            "characters": judgement.characters,
            "answers": len(texts),
            "max_relative_error": error,
        },
    }


def max_text_length(context: EvaluationContext) -> int | None:
    """Returns how many tokens of a text the program reads; None: all."""
    limits = [context.model.tokenizer.model_max_length, encoder_positions(context.model)]
    if split_class_name(context.class_name)[1]:
        limits.append(sentence_settings(context.model).get("max_seq_length"))
    known = [int(one) for one in limits if one and one < _NO_LIMIT]
    return min(known) if known else None


def _labels(context: EvaluationContext) -> tuple[list[str], str]:
    """Returns the names of a classifier's classes and what makes its scores; nothing for other tasks."""
    if not isinstance(context.task, TextClassification):
        return [], "none"
    return list(context.model.labels.values()), context.task.score_function(context.model)


def _compare_answers(
    context: EvaluationContext,
    backend: str,
    program: Path,
    path: Path,
    texts: list[str],
    limit: int | None,
) -> float:
    """Compares the outputs from texts with those from the tokenizer's tokens; returns the largest relative difference.

    Raises:
        WorkerError: An output or a label differs.
    """
    batch = context.model.tokenizer(
        texts, padding=True, truncation=limit is not None, max_length=limit, return_tensors="np"
    )
    tokens = {name: np.asarray(value) for name, value in batch.items()}
    worker = context.pool.get(backend)
    theirs = worker.call(
        WORKER_MODULE,
        "run_tokens",
        path=str(program),
        tokens={name: value.tolist() for name, value in tokens.items()},
    )
    ours = worker.call(WORKER_MODULE, "run_program", path=str(path), texts=texts)
    # NumPy's maximum keeps a NaN, which stands for outputs that cannot be compared.
    worst = float(np.max([_relative_error(ours[name], theirs[name]) for name in theirs]))
    allowed = MAX_RELATIVE_ERROR.get(context.request.precision, _HALF_PRECISION_ERROR)
    if not worst <= allowed:
        raise WorkerError(
            "the program that takes texts gives other outputs than the one that takes tokens",
            expected=f"a relative difference of at most {allowed:g}",
            found=f"{worst:g}",
        )
    if "label" in ours:
        outputs = {name: np.asarray(value, np.float32) for name, value in theirs.items()}
        case = Case("texts", tuple({"text": one} for one in texts))
        answers = context.task.decode(context.model, Batch(case, tokens), outputs)
        wanted = [one["label"] for one in answers]
        if wanted != ours["label"]:
            raise WorkerError(
                "the program that takes texts gives other labels",
                expected=str(wanted),
                found=str(ours["label"]),
            )
        return max(worst, _relative_error(ours["score"], [one["score"] for one in answers]))
    return worst


def _relative_error(ours: object, theirs: object) -> float:
    """Returns the largest difference relative to the largest value; NaN where shapes or NaNs differ."""
    first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if first.shape != second.shape:
        return float("nan")
    scale = max(float(np.abs(second).max(initial=0.0)), 1.0)
    return float(np.abs(first - second).max(initial=0.0)) / scale
