"""Table question answering: selects cells of a table and an aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.activations import sigmoid
from equipoise.validators.core.types import (
    Answer,
    Array,
    Arrays,
    Batch,
    CallOption,
    Case,
    Decision,
    Sample,
)
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.samples import take_cyclic
from equipoise.validators.tasks.base import run_single_pass
from equipoise.validators.tasks.shared.labels import argmax_margins
from equipoise.validators.tasks.shared.text import check_filled, max_tokens, to_int64

Cells = dict[tuple[int, int], Array]
"""Row and column of a cell -> positions of its tokens."""


class TableQuestionAnswering:
    """TAPAS: selects cells by probability, and an aggregation with a second head."""

    name = "table-question-answering"
    aliases = ()
    auto_class = "AutoModelForTableQuestionAnswering"

    def suits(self, model: ModelFolder) -> bool:
        """Checks for TAPAS with a question answering head."""
        return model.model_type == "tapas" and model.class_name.endswith("ForQuestionAnswering")

    def samples(self, model: ModelFolder) -> list[Sample]:
        """Returns tables of different sizes."""
        people = {"Name": ["Anna", "Ben", "Clara"], "Age": ["31", "28", "45"]}
        cities = {"City": ["Rome", "Oslo"], "Country": ["Italy", "Norway"]}
        return [
            {"table": people, "query": "How old is Ben?"},
            {"table": cities, "query": "Where is Oslo?"},
            {"table": people, "query": "What is the sum of all ages?"},
        ]

    def cases(self, model: ModelFolder, samples: Sequence[Sample]) -> list[Case]:
        """Returns cases of one table, of three, and of one with as many rows as the model supports, 60 at most."""
        rows = _max_rows(model)
        table = {name: (list(cells) * rows)[:rows] for name, cells in samples[0]["table"].items()}
        return [
            Case("single", (samples[0],)),
            Case("batch", take_cyclic(samples, 3)),
            Case("long", ({**samples[0], "table": table},)),
        ]

    def encode(self, model: ModelFolder, case: Case) -> Batch:
        """Tokenizes queries and tables, drops rows until they fit, and pads to the longest.

        Raises:
            InputError: A call has an empty query or table, or columns of different lengths.
        """
        check_filled(case, "query", "table")
        case = replace(case, samples=tuple(map(_with_columns, case.samples)))
        encodings = [self._tokenize(model, sample) for sample in case.samples]
        length = max(arrays["input_ids"].shape[1] for arrays in encodings)
        arrays = {
            name: np.concatenate([_pad(part[name], length, model, name) for part in encodings])
            for name in encodings[0]
        }
        context = [_cell_tokens(row) for row in arrays["token_type_ids"]]
        return Batch(case, arrays, valid={"logits": arrays["attention_mask"] == 1}, context=context)

    run = run_single_pass

    def decode(
        self, model: ModelFolder, batch: Batch, outputs: Arrays, **options: CallOption
    ) -> list[Answer]:
        """Returns answer, coordinates, cells, and the aggregator if the model has one."""
        answers = []
        for index, sample in enumerate(batch.case.samples):
            columns = list(sample["table"].values())
            selected = _selected_cells(batch.context[index], outputs["logits"][index])
            cells = [str(columns[column][row]) for row, column in selected]
            answer: dict[str, Answer] = {"answer": ", ".join(cells)}
            answer.update(coordinates=selected, cells=cells)
            name, no_aggregation = self._aggregator(model, outputs, index)
            if name:
                answer["answer"] = ("" if no_aggregation else f"{name} > ") + answer["answer"]
                answer["aggregator"] = name
            answers.append(answer)
        return answers

    def decisions(self, model: ModelFolder, batch: Batch, outputs: Arrays) -> list[Decision]:
        """Returns the selected cells and the aggregation."""
        decisions = []
        for index, cells in enumerate(batch.context):
            selected = _selected_cells(cells, outputs["logits"][index])
            decisions.append(
                Decision(
                    "cells",
                    selected,
                    "logits",
                    index,
                    _cell_margin(cells, outputs["logits"][index]),
                )
            )
            name, _ = self._aggregator(model, outputs, index)
            if name:
                margin = argmax_margins(outputs["logits_aggregation"][index])
                decisions.append(Decision("aggregator", name, "logits_aggregation", index, margin))
        return decisions

    @staticmethod
    def _tokenize(model: ModelFolder, sample: Sample) -> Arrays:
        from pandas import DataFrame  # the only input that TAPAS's tokenizer accepts

        encoding = model.tokenizer(
            table=DataFrame.from_dict(sample["table"]).astype(str).astype(object),
            queries=str(sample["query"]),
            truncation="drop_rows_to_fit",
            max_length=max_tokens(model),
            return_tensors="np",
        )
        _check_types(model, np.asarray(encoding["token_type_ids"][0]))
        return {name: to_int64(np.asarray(value)) for name, value in encoding.items()}

    @staticmethod
    def _aggregator(model: ModelFolder, outputs: Arrays, index: int) -> tuple[str, bool]:
        labels = model.config.get("aggregation_labels") or {}
        if not labels or "logits_aggregation" not in outputs:
            return "", True
        best = int(outputs["logits_aggregation"][index].argmax())
        return str(labels[str(best)]), best == model.config.get("no_aggregation_label_index")


def _with_columns(sample: Sample) -> Sample:
    """Returns a sample whose table is a mapping of columns; it may be a list of rows as well.

    Raises:
        InputError: It is neither, has no cells, or its columns have different lengths.
    """
    table = sample["table"]
    if isinstance(table, list) and all(isinstance(row, Mapping) for row in table):
        names = dict.fromkeys(name for row in table for name in row)
        table = {name: [row.get(name, "") for row in table] for name in names}
    if not isinstance(table, Mapping) or not all(isinstance(one, list) for one in table.values()):
        raise InputError("the table is no table", expected='{"Name": ["Anna", "Ben"], ...}')
    if len({len(cells) for cells in table.values()}) != 1 or not all(table.values()):
        raise InputError(
            "the columns of the table are empty or have different lengths",
            found=", ".join(f"{name}: {len(cells)}" for name, cells in table.items()),
        )
    return {**sample, "table": table}


_TYPES = ("segments", "columns", "rows", "answers", "ranks", "inverse ranks", "relations")
"""What the numbers of a token are, in the order of the config's ``type_vocab_sizes``."""


def _type_sizes(model: ModelFolder) -> list[int]:
    """Returns how many numbers of each kind are embedded: those of the config, or TAPAS's defaults."""
    return list(model.config.get("type_vocab_sizes") or [3, 256, 256, 2, 256, 256, 10])


def _check_types(model: ModelFolder, types: Array) -> None:
    """Checks that the model has an embedding for each number of the tokens (length, kinds).

    Raises:
        InputError: The table has more rows or columns.
    """
    for kind, most, size in zip(
        _TYPES, types.max(axis=0).tolist(), _type_sizes(model), strict=False
    ):
        if most >= size:
            raise InputError(
                f"the table has {most} {kind}, and the model takes {size - 1}",
                file=model.path,
                hint="a smaller table",
            )


def _max_rows(model: ModelFolder) -> int:
    """Returns the maximal number of rows: row numbers and ranks are embedded."""
    sizes = _type_sizes(model)
    return int(min(60, sizes[2] - 1, sizes[4] - 1, sizes[5] - 1))


def _pad(array: Array, length: int, model: ModelFolder, name: str) -> Array:
    widths = [(0, 0), (0, length - array.shape[1]), *((0, 0),) * (array.ndim - 2)]
    fill = int(model.tokenizer.pad_token_id or 0) if name == "input_ids" else 0
    return np.pad(array, widths, constant_values=fill)


def _cell_tokens(types: Array) -> Cells:
    """Returns the tokens of each cell; the token types are segment, column and row, counted from one."""
    cells: dict[tuple[int, int], list[int]] = {}
    for position, (segment, column, row) in enumerate(types[:, :3].tolist()):
        if segment == 1 and column > 0 and row > 0:
            cells.setdefault((row - 1, column - 1), []).append(position)
    return {cell: np.asarray(positions) for cell, positions in sorted(cells.items())}


def _selected_cells(cells: Cells, logits: Array) -> list[tuple[int, int]]:
    return [cell for cell, positions in cells.items() if sigmoid(logits[positions]).mean() > 0.5]


def _cell_margin(cells: Cells, logits: Array) -> Array:
    """Returns how far the logits may move: a probability, and the mean of several, moves by a quarter of the logits' error at most."""
    distances = [
        abs(float(sigmoid(logits[positions]).mean()) - 0.5) for positions in cells.values()
    ]
    return np.asarray(4 * min(distances, default=np.inf))


TASK = TableQuestionAnswering()
