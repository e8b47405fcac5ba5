"""Plants the faults of the table in copies of the base programs: the corpus, which is the same for the same seed."""

from __future__ import annotations

import importlib
import json
import shutil
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.core.errors import EquipoiseError
from equipoise.exporters.artifact import find_manifest
from faults.planting.onnx_graph import NoSiteError, OnnxProgram, Planted, changes_outputs

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / "fixtures" / "tasks"
CLASS_BACKENDS = ("pytorch", "tensorflow", "flax")
"""Backends whose artifacts are checkpoints: the fixture itself, converted where they need another layout."""
EDITS_OF_GRAPHS = ("onnx_operators", "onnx_values")
"""Modules whose faults change outputs for any input; others need a long input, a batch, a row that is not used."""
ARTIFACT, RECORD = "artifact", "fault.json"
"""What the folder of a fault holds: the artifact that is wrong, and what is wrong with it."""
MAX_ATTEMPTS = 4
"""How many sites of a fixture are tried before it counts as having none."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: Its name.
        class_name: The class that it belongs to.
        plant: The function that plants it, by module and name.
        backends: The backends that it can change.
        fixtures: How many fixtures get one.
        parameters: Further arguments of the function.
        among: The fixtures that are tried; empty for all.
    """

    name: str
    class_name: str
    plant: str
    backends: tuple[str, ...]
    fixtures: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """One artifact that is wrong in a known way.

    Attributes:
        name: ``kind/backend/fixture``.
        kind: Name of the kind.
        class_name: Name of the class.
        fixture: The model that it was made from.
        backend: What runs it.
        what: What was done.
        module: The first module that computes otherwise; empty where it is not one module.
        weight: The weight that was changed, if one was.
    """

    name: str
    kind: str
    class_name: str
    fixture: str
    backend: str
    what: str
    module: str = ""
    weight: str = ""


def read_table() -> tuple[dict[str, str], list[Kind]]:
    """Returns the titles of the classes, and the kinds."""
    table = tomllib.loads((HERE / "kinds.toml").read_text())
    fixed = ("class", "plant", "backends", "fixtures", "among")
    kinds = [
        Kind(
            name,
            one["class"],
            one["plant"],
            tuple(one["backends"]),
            one["fixtures"],
            {key: value for key, value in one.items() if key not in fixed},
            tuple(one.get("among", ())),
        )
        for name, one in table["kinds"].items()
    ]
    return table["classes"], kinds


def read_fault(folder: Path) -> Fault:
    """Returns the fault that a folder of the corpus holds."""
    return Fault(**json.loads((folder / RECORD).read_text()))


def fixture_names() -> list[str]:
    """Returns the names of all fixtures."""
    return sorted(path.parent.name for path in FIXTURES.glob("*/samples.json"))


class Corpus:
    """Artifacts with faults in a folder, made where they are not there yet.

    Args:
        folder: Where they are.
        programs: The base programs: ``fixture/backend/``.
        seed: Of the choice of fixtures and sites.
        backends: Those that get faults; None for all.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path,
        seed: int = 0,
        backends: tuple[str, ...] | None = None,
    ) -> None:
        self.folder, self.programs, self.seed, self.backends = folder, programs, seed, backends

    def plant(self, kinds: list[Kind], fixtures: list[str]) -> Iterator[Fault]:
        """Yields the faults of some kinds in some fixtures, after planting those that are not there."""
        for kind in kinds:
            for backend in kind.backends:
                if self.backends is not None and backend not in self.backends:
                    continue
                found = 0
                for fixture in self._order(kind, backend):
                    if found < kind.fixtures and (one := self._plant_one(kind, backend, fixture)):
                        found += 1
                        if fixture in fixtures:
                            yield one

    def artifact(self, fault: Fault) -> Path:
        """Returns the folder of a fault's artifact."""
        return self.folder / fault.name / ARTIFACT

    def _order(self, kind: Kind, backend: str) -> list[str]:
        names = [one for one in fixture_names() if not kind.among or one in kind.among]
        random = self._random(kind.name, backend)
        return [names[i] for i in random.permutation(len(names))]

    def _random(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32("/".join(names).encode())])

    def _plant_one(self, kind: Kind, backend: str, fixture: str) -> Fault | None:
        """Returns the fault; None if the fixture has no place for it."""
        name = f"{kind.name}/{backend}/{fixture}"
        record = self.folder / name / RECORD
        if not record.is_file():
            record.parent.mkdir(parents=True, exist_ok=True)
            planted = self._try_sites(kind, backend, fixture, record.parent / ARTIFACT)
            content = None
            if planted is not None:
                content = asdict(
                    Fault(name, kind.name, kind.class_name, fixture, backend, **asdict(planted))
                )
            record.write_text(json.dumps(content, indent=1) + "\n")
        return read_fault(record.parent) if json.loads(record.read_text()) else None

    def _try_sites(self, kind: Kind, backend: str, fixture: str, output: Path) -> Planted | None:
        base = (
            FIXTURES / fixture if backend in CLASS_BACKENDS else self.programs / fixture / backend
        )
        if not base.is_dir() or not is_correct(base):
            return None
        for attempt in range(MAX_ATTEMPTS):
            random = self._random(kind.name, backend, fixture, str(attempt))
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(base, output)
            try:
                return plant(kind, output, random, backend, FIXTURES / fixture)
            except (NoSiteError, EquipoiseError):
                continue
        shutil.rmtree(output, ignore_errors=True)
        return None


def is_correct(base: Path) -> bool:
    """Whether a base program passed when it was exported; a checkpoint is the reference itself."""
    verdict = find_manifest(base).get("verdict", {})
    return not verdict.get("judged") or verdict["verdict"] in ("identical", "within noise")


def plant(
    kind: Kind, artifact: Path, random: np.random.Generator, backend: str, fixture: Path
) -> Planted:
    """Plants a fault in an artifact, in its place.

    Raises:
        NoSiteError: The artifact has no place for it.
    """
    module, _, name = kind.plant.partition(".")
    function = getattr(importlib.import_module(f"faults.planting.{module}"), name)
    if not module.startswith("onnx"):
        planted: Planted = function(artifact, random, backend, fixture, **kind.parameters)
        return planted
    files = sorted(artifact.glob("*.onnx"))
    for index in random.permutation(len(files)):
        program = OnnxProgram(files[index])
        try:
            planted = function(program, random, **kind.parameters)
        except NoSiteError:
            continue
        if module in EDITS_OF_GRAPHS and not changes_outputs(OnnxProgram(files[index]), program):
            continue  # a padding of none, a resizing to the same size
        program.save()
        return planted
    raise NoSiteError
