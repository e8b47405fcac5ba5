"""Runs programs of fixed sizes on other inputs: texts are padded, rows are repeated, and many rows run in several passes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Array, Arrays, CallOption, Runner
from equipoise.validators.runtime.forwarding import ForwardingRunner

MASK = "attention_mask"
"""The input that says what is padding; without it a padded text is another text."""

TYPES = "token_type_ids"
_PADDED = (MASK, "input_ids", TYPES)


class FixedSizeRunner(ForwardingRunner):
    """Fits inputs to the sizes that a program was exported with, and cuts its outputs to those of the inputs.

    Args:
        runner: The program.
        shapes: The shapes of the program's inputs by name; a size that may vary is a text.
        pad_token_id: Id of the tokens that follow a text.
        per_token: Names of the outputs with a row for each token.

    >>> FixedSizeRunner.sizes({"input_ids": [2, 16], "attention_mask": ["batch_size", 16]})
    {'input_ids': (2, 16), 'attention_mask': (None, 16)}
    """

    def __init__(
        self,
        runner: Runner,
        shapes: Mapping[str, Sequence[int | str]],
        pad_token_id: int,
        per_token: Collection[str],
    ) -> None:
        super().__init__(runner)
        self._sizes = self.sizes(shapes)
        self._pad = {"input_ids": pad_token_id}
        self._per_token = frozenset(per_token)

    @staticmethod
    def sizes(shapes: Mapping[str, Sequence[int | str]]) -> dict[str, tuple[int | None, ...]]:
        """Returns the sizes of each input; None where it may vary."""
        return {
            name: tuple(one if isinstance(one, int) else None for one in shape)
            for name, shape in shapes.items()
        }

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs a forward pass, or several where there are more rows than the program takes.

        Raises:
            InputError: The inputs do not fit the program's sizes.
        """
        for name in (MASK, TYPES):
            if name in self._sizes and name not in inputs:
                raise InputError(f"the program takes {name}, and the options leave it out")
        count = self._rows_of_pass(inputs)
        if count is None:
            return self._run_once(inputs, **kwargs)
        total = len(next(iter(inputs.values())))
        passes = [
            self._run_once(
                {name: value[start : start + count] for name, value in inputs.items()}, **kwargs
            )
            for start in range(0, total, count)
        ]
        return {name: np.concatenate([one[name] for one in passes]) for name in passes[0]}

    def _rows_of_pass(self, inputs: Mapping[str, Array]) -> int | None:
        """Returns the rows of the program where all inputs have the same number of rows, and more; else None."""
        found = {len(value) for value in inputs.values() if value.ndim}
        wanted = {self._sizes.get(name, (None,))[0] for name, value in inputs.items() if value.ndim}
        if len(found) != 1 or len(wanted) != 1:
            return None
        size = wanted.pop()
        return size if size is not None and found.pop() > size else None

    def _run_once(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        fitted = {name: self._fit(name, value, MASK in inputs) for name, value in inputs.items()}
        outputs = self._runner.run(fitted, **kwargs)
        if all(fitted[name].shape == inputs[name].shape for name in inputs):
            return outputs
        rows = self._rows_by_fitted(inputs, fitted)
        tokens = inputs[MASK].shape[1] if MASK in inputs else None
        return {name: self._cut(name, value, rows, tokens) for name, value in outputs.items()}

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Runs one step.

        Raises:
            InputError: The inputs do not have the program's sizes.
        """
        for name, value in inputs.items():
            if self._differs(name, value):
                raise self._mismatch(name, value)
        return self._runner.step(inputs, state, order, **kwargs)

    def _differs(self, name: str, value: Array) -> bool:
        sizes = self._sizes.get(name, ())
        return len(sizes) == value.ndim and any(
            size not in (None, found) for size, found in zip(sizes, value.shape, strict=True)
        )

    def _fit(self, name: str, value: Array, has_mask: bool) -> Array:
        if not self._differs(name, value):
            return value
        wanted = [
            found if size is None else size
            for size, found in zip(self._sizes[name], value.shape, strict=True)
        ]
        is_text = name in _PADDED and has_mask and value.ndim == 2
        if wanted[0] < len(value) or (value.shape[1:] != tuple(wanted[1:]) and not is_text):
            raise self._mismatch(name, value)
        if is_text:
            if wanted[1] < value.shape[1]:
                raise self._mismatch(name, value)
            more = ((0, 0), (0, wanted[1] - value.shape[1]))
            value = np.pad(value, more, constant_values=self._pad.get(name, 0))
        rows: Array = value[np.arange(wanted[0]) % len(value)]
        return rows

    def _rows_by_fitted(
        self, inputs: Mapping[str, Array], fitted: Mapping[str, Array]
    ) -> dict[int, int]:
        """Returns the number of rows that the program ran -> how many of them are the inputs'.

        Raises:
            InputError: Two inputs of other numbers of rows were fitted to the same number: whose rows an output has cannot be told.
        """
        rows: dict[int, int] = {}
        for name, value in inputs.items():
            if value.ndim and rows.setdefault(len(fitted[name]), len(value)) != len(value):
                raise self._mismatch(name, value)
        return rows

    def _cut(self, name: str, value: Array, rows: Mapping[int, int], tokens: int | None) -> Array:
        if value.ndim:
            value = value[: rows.get(len(value))]
        # The scores of images against texts have two axes of rows.
        if value.ndim == 2 and len(rows) > 1:
            value = value[:, : rows.get(value.shape[1])]
        return value[:, :tokens] if name in self._per_token else value

    def _mismatch(self, name: str, value: Array) -> InputError:
        rows = self._sizes[name][0]
        has_more_rows = rows is not None and len(value) > rows
        less = "fewer labels or samples at once" if has_more_rows else "a shorter input"
        sizes = " x ".join("any" if one is None else str(one) for one in self._sizes[name])
        return InputError(
            f"the program was exported for {name} of {sizes}",
            found=" x ".join(map(str, value.shape)),
            hint=f"{less}, or export it with --batch dynamic --sequence dynamic",
        )
