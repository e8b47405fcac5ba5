"""Writes SavedModels that take texts, with the operators of tensorflow-text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import TfTensor
from equipoise.exporters.text.graph_builder import NO_MATCH
from equipoise.exporters.text.text_program import IDS, MASK, TEXT_INPUT, TYPES, LabelAnswer
from equipoise.exporters.text.token_rows import RowMaker
from equipoise.exporters.text.tokenizer_spec import unsupported
from equipoise.exporters.text.unigram import Unigram
from equipoise.exporters.text.wordpiece import WordPiece

_MAX_BYTES_A_CHARACTER = 4


def load_operators() -> Any:
    """Imports tensorflow-text, which registers its operators; its layers want Keras 3, whatever Keras the process asks for."""
    with mock.patch.dict(os.environ):
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        import tensorflow_text
    return tensorflow_text


class TensorFlowBuilder:
    """Rules for texts as operations of TensorFlow.

    Attributes:
        resources: Tables and tokenizers, which the module must keep.
    """

    def __init__(self) -> None:
        self.resources: list[object] = []
        self._tables: dict[tuple[tuple[str, ...], tuple[Any, ...]], Any] = {}

    def replace(self, text: TfTensor, pattern: str, replacement: str) -> TfTensor:
        r"""Replaces all matches of an RE2 pattern in each string; ``\1`` stands for its first group."""
        import tensorflow as tf

        return tf.strings.regex_replace(text, pattern, replacement)

    def split(self, text: TfTensor, pattern: str, keep: str = "") -> TfTensor:
        """Splits strings at the matches of a pattern; those that match ``keep`` stay."""
        return load_operators().regex_split(text, pattern, keep).flat_values

    def join(self, texts: TfTensor) -> TfTensor:
        """Joins a vector of strings to a vector of one."""
        import tensorflow as tf

        return tf.strings.reduce_join(texts, keepdims=True)

    def translate(self, texts: TfTensor, table: Mapping[str, str]) -> TfTensor:
        """Replaces the strings that are keys of a table by their values; the others stay."""
        import tensorflow as tf

        if not table:
            return texts
        found = self.table(list(table), list(table.values()), NO_MATCH).lookup(texts)
        return tf.where(tf.equal(found, NO_MATCH), texts, found)

    def table(self, keys: list[str], values: list[Any], default: object) -> Any:
        """Returns a lookup table."""
        import tensorflow as tf

        key = (tuple(keys), tuple(values))
        if key not in self._tables:
            # Outside of the function that is traced, which may be traced again.
            with tf.init_scope():
                kind = "int64" if isinstance(default, int) else "string"
                initializer = tf.lookup.KeyValueTensorInitializer(keys, values, "string", kind)
                self._tables[key] = tf.lookup.StaticHashTable(initializer, default)
            self.resources.append(self._tables[key])
        return self._tables[key]


class TensorFlowRows:
    """Makes rows of token numbers of texts.

    Args:
        maker: The tokenizer.

    Raises:
        InputError: tensorflow-text has no operator for it.

    Attributes:
        builder: The operations, with the tables and tokenizers that the module must keep.
    """

    def __init__(self, maker: RowMaker) -> None:
        self.maker = maker
        self.builder = TensorFlowBuilder()
        encoder = maker.encoder
        if isinstance(encoder, WordPiece):
            self._encode = self._wordpiece(encoder)
        elif isinstance(encoder, Unigram):
            self._encode = self._unigram(encoder)
        else:
            raise unsupported("tensorflow-text has no byte-level BPE")

    def __call__(self, texts: TfTensor) -> tuple[TfTensor, TfTensor]:
        """Returns ``input_ids`` and ``attention_mask`` of a vector of texts: int64 (texts, tokens)."""
        import tensorflow as tf

        spec, limit = self.maker.spec, self.maker.max_length
        signature = tf.RaggedTensorSpec([None], tf.int64)
        rows = tf.map_fn(
            lambda text: self._encode(text[None]), texts, fn_output_signature=signature
        )
        if limit is not None:
            rows = rows[:, : limit - len(spec.before) - len(spec.after)]
        count = tf.size(texts)
        first, last = (
            tf.tile(tf.constant([list(tokens)], tf.int64, [1, len(tokens)]), [count, 1])
            for tokens in (spec.before, spec.after)
        )
        rows = tf.concat([first, rows, last], 1)
        if spec.pads_left:
            rows = rows[:, ::-1]
        ids = rows.to_tensor(spec.pad_index)
        mask = tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1], tf.int64)
        return (ids[:, ::-1], mask[:, ::-1]) if spec.pads_left else (ids, mask)

    def _wordpiece(self, encoder: WordPiece) -> Callable[[TfTensor], TfTensor]:
        import tensorflow as tf

        builder, model = self.builder, encoder.spec.model
        longest = int(model["max_input_chars_per_word"])
        indices = encoder.indices
        tokenizer = load_operators().WordpieceTokenizer(
            builder.table(list(indices), list(indices.values()), -1),
            suffix_indicator=str(model["continuing_subword_prefix"]),
            max_bytes_per_word=longest * _MAX_BYTES_A_CHARACTER,
            unknown_token=encoder.unknown,
        )

        def encode(text: TfTensor) -> TfTensor:
            words = encoder.words(builder, text)
            is_long = tf.strings.length(words, "UTF8_CHAR") > longest
            return tokenizer.tokenize(tf.where(is_long, NO_MATCH, words)).flat_values

        return encode

    def _unigram(self, encoder: Unigram) -> Callable[[TfTensor], TfTensor]:
        import tensorflow as tf

        tokenizer = load_operators().SentencepieceTokenizer(encoder.model())
        self.builder.resources.append(tokenizer)
        indices = encoder.indices()

        def encode(text: TfTensor) -> TfTensor:
            pieces = tokenizer.tokenize(encoder.parts(self.builder, text)).flat_values
            return tf.gather(tf.constant(indices, tf.int64), pieces)

        return encode


def save_tokenizer(maker: RowMaker, path: Path) -> None:
    """Writes a SavedModel with the input ``text`` and the outputs ``input_ids`` and ``attention_mask``.

    Raises:
        InputError: tensorflow-text has no operator for the tokenizer.
    """
    rows = TensorFlowRows(maker)
    _save(lambda texts: dict(zip((IDS, MASK), rows(texts), strict=True)), rows.builder, path)


def save_from_text(maker: RowMaker, program: Path, path: Path, answer: LabelAnswer | None) -> None:
    """Writes a SavedModel that takes texts and gives the outputs of a model, and its labels.

    Args:
        maker: The tokenizer.
        program: The SavedModel of the model, whose variables are saved again.
        path: The folder to write.
        answer: Labels of a classifier; adds the outputs ``label`` and ``score``.

    Raises:
        InputError: The model has inputs beside the tokens of a text.
    """
    import tensorflow as tf

    rows = TensorFlowRows(maker)
    model = tf.saved_model.load(str(program))
    if "serving_default" not in model.signatures:
        raise unsupported("the model has several graphs")
    signature = model.signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    if others := set(inputs) - {IDS, MASK, TYPES}:
        raise unsupported(f"the model takes {min(others)!r} beside the tokens of a text")

    def call(texts: TfTensor) -> dict[str, TfTensor]:
        ids, mask = rows(texts)
        given = {IDS: ids, MASK: mask, TYPES: tf.zeros_like(ids)}
        outputs = signature(
            **{name: tf.cast(given[name], one.dtype) for name, one in inputs.items()}
        )
        return {**outputs, **(_labels(outputs["logits"], answer) if answer else {})}

    rows.builder.resources.append(model)
    _save(call, rows.builder, path)


def _labels(logits: TfTensor, answer: LabelAnswer) -> dict[str, TfTensor]:
    """Returns the best label of each text and its score."""
    import tensorflow as tf

    scores = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "none": tf.identity}[
        answer.activation
    ](logits)
    names = tf.constant(list(answer.labels))
    return {"label": tf.gather(names, tf.argmax(scores, -1)), "score": tf.reduce_max(scores, -1)}


def _save(
    call: Callable[[TfTensor], dict[str, TfTensor]], builder: TensorFlowBuilder, path: Path
) -> None:
    """Saves a function of a vector of texts as ``serving_default``."""
    import tensorflow as tf

    module = tf.Module()
    texts = tf.TensorSpec([None], tf.string, TEXT_INPUT)
    module.call = tf.function(call, input_signature=[texts])
    signature = module.call.get_concrete_function()
    for index, resource in enumerate(builder.resources):
        setattr(module, f"resource_{index}", resource)
    tf.saved_model.save(module, str(path), signatures=signature)
