"""PyTorch's answers, kept in a folder: a later run compares with them and needs no PyTorch."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import InputError, OutputError
from equipoise.validators.reference import Measured
from equipoise.validators.result import BackendResult, plain
from equipoise.validators.runner import Arrays
from equipoise.validators.setup import Setup
from equipoise.validators.tasks.base import Batch

INDEX = "golden.json"
SCHEMA = 1


def save(folder: Path, setup: Setup, row: BackendResult, measured: Sequence[Measured]) -> None:
    """Writes inputs, outputs and the truth of every case.

    Raises:
        OutputError: The folder cannot be written.
    """
    cases = [one.batch.case.name for one in measured]
    index = {
        "schema": SCHEMA,
        "task": setup.task.name,
        "class": setup.class_name,
        "precision": setup.request.precision,
        "accepts": sorted(row.about.get("accepts", ())),
        "versions": dict(row.versions),
        "cases": cases,
        "noises": len(measured[0].noises),
        "seconds": [list(one.seconds) for one in measured],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in measured:
            parts: dict[str, dict[str, Any]] = {
                "inputs": one.batch.arrays,
                "reference": one.reference,
                "truth": one.truth,
            }
            parts.update({f"noise-{index}": value for index, value in enumerate(one.noises)})
            for part, values in parts.items():
                np.savez(folder / _file(one.batch.case.name, part), **values)
        (folder / INDEX).write_text(json.dumps(plain(index), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", file=folder) from error


def _file(case: str, part: str) -> str:
    return f"{case}.{part}.npz"


@dataclass(frozen=True)
class Golden:
    """Answers that were kept, in the place of :class:`~equipoise.validators.reference.Reference`."""

    setup: Setup
    folder: Path
    index: dict[str, Any]

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model takes."""
        return frozenset(self.index["accepts"])

    def measure(self, batches: Sequence[Batch]) -> list[Measured]:
        """The cases as they were kept.

        Raises:
            InputError: One was not kept, or the samples give other arrays today.
        """
        return [self._kept(batch) for batch in batches]

    def _kept(self, batch: Batch) -> Measured:
        """A case as it was kept.

        Raises:
            InputError: It was not kept, or the samples give other arrays today.
        """
        name = batch.case.name
        if name not in self.index["cases"]:
            raise InputError(f"the golden has no case {name}", file=self.folder, hint=_AGAIN)
        kept = self._read(name, "inputs")
        for key, value in batch.arrays.items():
            if key not in kept or not np.array_equal(kept[key], value):
                raise InputError(
                    f"the case {name} has other inputs than when the golden was made",
                    file=self.folder / _file(name, "inputs"),
                    tensor=key,
                    hint=f"samples, tokenizer or processor have changed; {_AGAIN}",
                )
        reference, truth = self._read(name, "reference"), self._read(name, "truth")
        for key in reference.keys() & truth.keys():
            if reference[key].shape != truth[key].shape:
                raise InputError(
                    f"{key} has another shape than in {_file(name, 'reference')}",
                    file=self.folder / _file(name, "truth"),
                    hint=_AGAIN,
                )
        decisions = tuple(self.setup.task.decisions(self.setup.model, batch, reference))
        seconds = tuple(self.index["seconds"][self.index["cases"].index(name)])
        count = int(self.index["noises"])
        noises = tuple(self._read(name, f"noise-{index}") for index in range(count))
        return Measured(batch, reference, truth, decisions, seconds, noises)

    def _read(self, case: str, part: str) -> Arrays:
        path = self.folder / _file(case, part)
        try:
            # Opened here: where it is no archive, numpy leaves open what it has opened.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
                return {name: values[name] for name in values.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"cannot be read: {error}", file=path, hint=_AGAIN) from error


_AGAIN = "make it again with --save-golden"


def load(setup: Setup, folder: Path) -> Golden:
    """Opens a golden.

    Raises:
        InputError: There is none, or it is another task's, class's or precision's.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"no golden: {error}", file=path, hint=_AGAIN) from error
    if not isinstance(index, dict):
        raise InputError("no golden: it is not an object", file=path, hint=_AGAIN)
    wanted = {
        "schema": SCHEMA,
        "task": setup.task.name,
        "class": setup.class_name,
        "precision": setup.request.precision,
    }
    for name, value in wanted.items():
        if index.get(name) != value:
            raise InputError(
                f"the golden's {name} is another", file=path, expected=value, found=index.get(name)
            )
    if missing := {"accepts", "cases", "seconds"} - set(index):
        raise InputError(f"the golden has no {', '.join(sorted(missing))}", file=path, hint=_AGAIN)
    return Golden(setup, folder, index)
