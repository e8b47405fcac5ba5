"""Goldens: PyTorch's outputs stored in a folder, so that later validations need no PyTorch."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.framework_types import JsonValue
from equipoise.convert.core.hashing import hash_file
from equipoise.convert.files.output_folder import replace_folder
from equipoise.convert.files.ownership import hash_entries
from equipoise.validators.core.types import Arrays, Batch
from equipoise.validators.evaluation.context import EvaluationContext, ReferenceOutputs
from equipoise.validators.judgement.results import BackendResult, to_json_value

INDEX_NAME = "golden.json"
SCHEMA_VERSION = 1


def save_golden(
    folder: Path,
    context: EvaluationContext,
    row: BackendResult,
    measured: Sequence[ReferenceOutputs],
) -> None:
    """Writes inputs, reference and truth of every case; replaces an older golden.

    Raises:
        OutputError: The folder cannot be written, or holds what is no golden.
    """
    cases = [outputs.batch.case.name for outputs in measured]
    index = {
        "schema": SCHEMA_VERSION,
        "task": context.task.name,
        "class": context.class_name,
        "precision": context.request.precision,
        "accepts": sorted(row.about.get("accepts", ())),
        "versions": dict(row.versions),
        "cases": cases,
        "weights": _hash_weights(context),
        "noises": len(measured[0].noises),
        "seconds": [list(outputs.seconds) for outputs in measured],
    }
    with replace_folder(folder) as new:
        for outputs in measured:
            parts: dict[str, dict[str, Any]] = {
                "inputs": outputs.batch.arrays,
                "reference": outputs.reference,
                "truth": outputs.truth,
            }
            parts.update({f"noise-{index}": value for index, value in enumerate(outputs.noises)})
            for part, values in parts.items():
                np.savez(new / _file_name(outputs.batch.case.name, part), **values)
        index["files"] = hash_entries(new)
        (new / INDEX_NAME).write_text(json.dumps(to_json_value(index), indent=2) + "\n")


def _hash_weights(context: EvaluationContext) -> dict[str, str]:
    """Returns the names of the model's files of weights -> their SHA-256."""
    return {file.name: hash_file(file) for file in open_checkpoint(context.model.path).files}


def _file_name(case: str, part: str) -> str:
    return f"{case}.{part}.npz"


@dataclass(frozen=True)
class Golden:
    """Stored outputs, used instead of :class:`~equipoise.validators.evaluation.reference.ReferenceModels`."""

    context: EvaluationContext
    folder: Path
    index: dict[str, JsonValue]

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model accepts."""
        return frozenset(self.index["accepts"])

    def measure(self, batches: Sequence[Batch]) -> list[ReferenceOutputs]:
        """Returns the stored outputs of these cases; cases that were not stored are left out, see :attr:`notes`.

        Raises:
            InputError: No case was stored, one of those that were asked for by name was not, or the samples are encoded
                to other arrays than when it was stored.
        """
        stored = [batch for batch in batches if batch.case.name in self.index["cases"]]
        missing = self._missing_cases(batches)
        if missing and (not stored or self.context.request.cases is not None):
            raise InputError(
                f"the golden has no case {missing[0]}", file=self.folder, hint=_REMAKE_HINT
            )
        return [self._load_case(batch) for batch in stored]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the golden does not cover, and whether it was made from other weights than those at hand."""
        notes = []
        if missing := self._missing_cases(self.context.batches):
            notes.append(
                f"the golden lacks these cases, so they were not run: {', '.join(missing)}; {_REMAKE_HINT}"
            )
        weights = self.index.get("weights")
        if not isinstance(weights, dict):
            notes.append(f"the golden does not say of which weights it is; {_REMAKE_HINT}")
        elif sorted(weights.values()) != sorted((here := _hash_weights(self.context)).values()):
            notes.append(
                f"the golden was made from other files of weights ({_describe_files(weights)}) than the model's "
                f"({_describe_files(here)})"
            )
        return tuple(notes)

    def _missing_cases(self, batches: Sequence[Batch]) -> list[str]:
        return [batch.case.name for batch in batches if batch.case.name not in self.index["cases"]]

    def _load_case(self, batch: Batch) -> ReferenceOutputs:
        """Returns the stored outputs of a case.

        Raises:
            InputError: The samples are encoded to other arrays than when it was stored.
        """
        name = batch.case.name
        inputs = self._read(name, "inputs")
        for key, value in batch.arrays.items():
            if key not in inputs or not np.array_equal(inputs[key], value):
                raise InputError(
                    f"the case {name} has other inputs than when the golden was saved",
                    file=self.folder / _file_name(name, "inputs"),
                    tensor=key,
                    hint=f"samples, tokenizer or processor have changed; {_REMAKE_HINT}",
                )
        reference, truth = self._read(name, "reference"), self._read(name, "truth")
        for key in reference.keys() & truth.keys():
            if reference[key].shape != truth[key].shape:
                raise InputError(
                    f"the shape of {key} differs from that in {_file_name(name, 'reference')}",
                    file=self.folder / _file_name(name, "truth"),
                    hint=_REMAKE_HINT,
                )
        decisions = tuple(self.context.task.decisions(self.context.model, batch, reference))
        seconds = tuple(self.index["seconds"][self.index["cases"].index(name)])
        count = int(self.index["noises"])
        noises = tuple(self._read(name, f"noise-{index}") for index in range(count))
        return ReferenceOutputs(batch, reference, truth, decisions, seconds, noises)

    def _read(self, case: str, part: str) -> Arrays:
        path = self.folder / _file_name(case, part)
        try:
            # Opened here: np.load does not close a file that is not an archive.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
                return {name: values[name] for name in values.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"cannot be read: {error}", file=path, hint=_REMAKE_HINT) from error


def _describe_files(hashes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in hashes.items())


_REMAKE_HINT = "create it again with --save-golden"


def load_golden(context: EvaluationContext, folder: Path) -> Golden:
    """Opens a golden.

    Raises:
        InputError: There is no golden, or it is of another task, class or precision.
    """
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"not a golden: {error}", file=path, hint=_REMAKE_HINT) from error
    if not isinstance(index, dict):
        raise InputError("not a golden: not a JSON object", file=path, hint=_REMAKE_HINT)
    expected = {
        "schema": SCHEMA_VERSION,
        "task": context.task.name,
        "class": context.class_name,
        "precision": context.request.precision,
    }
    for name, value in expected.items():
        if index.get(name) != value:
            raise InputError(
                f"the {name} of the golden differs",
                file=path,
                expected=value,
                found=index.get(name),
            )
    if missing := {"accepts", "cases", "seconds"} - set(index):
        raise InputError(
            f"the golden has no {', '.join(sorted(missing))}", file=path, hint=_REMAKE_HINT
        )
    return Golden(context, folder, index)
