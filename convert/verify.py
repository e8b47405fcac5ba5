"""Verifies a finished conversion against its manifest and, if given, against its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.checkpoint import Checkpoint, open_checkpoint, open_container
from equipoise.convert.conversion.manifest import MANIFEST_NAME, Manifest
from equipoise.convert.conversion.plan_types import Plan, Step
from equipoise.convert.conversion.planner import plan
from equipoise.convert.conversion.transform import check_values, target_arrays
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError, EquipoiseError
from equipoise.convert.core.hashing import hash_blocks, hash_file
from equipoise.convert.core.tensor import TensorRef, array_blocks

Progress = Callable[[str], None]
"""Called with the name of the file or tensor that is being checked."""


@dataclass(frozen=True)
class Finding:
    """A difference from the manifest.

    Attributes:
        side: ``output`` or ``source``.
        problem: What is wrong.
        file: The file, as the manifest names it.
        tensor: The tensor, as the file names it; None for the whole file.
        expected: The value in the manifest.
        found: The found value.
    """

    side: str
    problem: str
    file: str
    tensor: str | None = None
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        folder: The verified folder.
        files: How many files were hashed, on both sides.
        tensors: How many tensors of the output were hashed.
        derived: How many tensors were computed again from the source; 0 without a source.
        findings: All differences; empty if there are none.
    """

    folder: Path
    files: int
    tensors: int
    derived: int
    findings: tuple[Finding, ...]


def verify(
    folder: str | Path,
    *,
    source: str | Path | None = None,
    config: str | Path | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Hashes every file and tensor again; with a source, also computes every tensor again.

    Args:
        folder: The output of a conversion.
        source: The checkpoint it came from.
        config: The source's ``config.json`` if it is not next to the weights.
        progress: Called with the name of the file or tensor that is being checked.

    Raises:
        CheckpointError: There is no manifest, or there is no checkpoint at ``source``.
    """
    root = Path(folder)
    run = _Verifier(root, Manifest.read(root).values, progress or _ignore_progress)
    run.output()
    if source is not None:
        run.source(Path(source), config)
    return Verification(root, run.files, run.tensors, run.derived, tuple(run.findings))


def _ignore_progress(what: str) -> None:
    """Does nothing."""


class _Verifier:
    def __init__(self, folder: Path, values: Mapping[str, Any], progress: Progress) -> None:
        self.folder = folder
        self.values = values
        self.progress = progress
        self.files = self.tensors = self.derived = 0
        self.findings: list[Finding] = []

    def output(self) -> None:
        """Checks the files of the output and every tensor in them."""
        weights = _manifest_table(self.values, "target", "files", folder=self.folder)
        others = _manifest_table(self.values, "companions", folder=self.folder)
        for name, digest in {**weights, **others}.items():
            self._file("output", self.folder / _check_plain_name(name, self.folder), name, digest)
        for name in weights:
            if (self.folder / name).is_file():
                self._tensors(name)

    def _file(self, side: str, path: Path, name: str, digest: object) -> None:
        self.progress(name)
        if not path.is_file():
            self._find(side, "the file is missing", name)
            return
        self.files += 1
        self._compare(side, "the file has changed", name, None, digest, hash_file(path))

    def _tensors(self, file: str) -> None:
        """Checks the tensors of a file."""
        records = self.values["tensors"]
        listed = {name: record for name, record in records.items() if record["file"] == file}
        try:
            tensors = open_container(self.folder / file).tensors
        except EquipoiseError as error:
            self._find("output", f"cannot be read: {error.message}", file, error.tensor)
            return
        for name in tensors.keys() - listed.keys():
            self._find("output", "the manifest does not list this tensor", file, name)
        for name, record in listed.items():
            if name not in tensors:
                self._find("output", "the tensor is missing", file, name)
                continue
            self._tensor(file, tensors[name], records[record.get("alias_of", name)])

    def _tensor(self, file: str, ref: TensorRef, record: Mapping[str, Any]) -> None:
        self.progress(ref.name)
        self.tensors += 1
        expected = f"{record['dtype']} {record['shape']}"
        found = f"{ref.dtype.name} {list(ref.shape)}"
        self._compare("output", "the dtype or shape has changed", file, ref.name, expected, found)
        try:
            digest = hash_blocks(ref.blocks())
        except EquipoiseError as error:
            self._find("output", f"cannot be read: {error.message}", file, ref.name)
            return
        self._compare("output", "the tensor has changed", file, ref.name, record["sha256"], digest)

    def source(self, path: Path, config: str | Path | None) -> None:
        """Checks the files of the source and computes every tensor of the output again."""
        options = self.values.get("options", {})
        checkpoint = open_checkpoint(
            path,
            layout=self.values["route"][0],
            config=config,
            subtree=options.get("subtree"),
            variant=options.get("variant"),
        )
        listed = dict(_manifest_table(self.values, "source", "files", folder=self.folder))
        for file in checkpoint.files:
            if file.name not in listed:
                self._find("source", "the manifest does not list this file", file.name)
            else:
                self._file("source", file, file.name, listed.pop(file.name))
        for name in listed:
            self._find("source", "the file is missing", name)
        planned = self._planned(checkpoint)
        if planned is not None:
            self._derive(planned)

    def _planned(self, checkpoint: Checkpoint) -> Plan | None:
        options = self.values.get("options", {})
        try:
            return plan(
                checkpoint,
                self.values["target"]["format"],
                dtype=self.values["dtype"],
                architecture=options.get("architecture"),
                allow=options.get("allow"),
                allow_lossy=bool(options.get("allow_lossy")),
                max_shard_size=options.get("max_shard_size"),
            )
        except EquipoiseError as error:
            problem = f"cannot be planned again: {error.message}"
            self._find("source", problem, checkpoint.files[0].name, error.tensor)
            return None

    def _derive(self, planned: Plan) -> None:
        file = planned.checkpoint.files[0].name
        for check in planned.checks:
            try:
                check_values(check, planned.checkpoint.tensors)
            except EquipoiseError as error:
                self._find("source", error.message, file, check.name)
        records = self.values["tensors"]
        checked = set()
        for shard in planned.shards:
            checked |= {header.name for header in shard.headers}
            for step in shard.steps:
                try:
                    self._step(step, planned.checkpoint, shard.filename)
                except EquipoiseError as error:
                    self._find("source", error.message, file, error.tensor)
        for name in sorted(records.keys() - checked):
            self._find("output", "nothing in the source yields this tensor", file, name)

    def _step(self, step: Step, checkpoint: Checkpoint, file: str) -> None:
        arrays: dict[str, Array] = {}
        for name in step.sources:
            ref = checkpoint[name]
            self.progress(name)
            arrays[name] = ref.read()
            digest = hash_blocks(array_blocks(arrays[name]))
            expected = self.values["sources"].get(name)
            self._compare("source", "the tensor has changed", ref.file.name, name, expected, digest)
        for header, array in target_arrays(step, arrays):
            self.derived += 1
            record = self.values["tensors"].get(header.name)
            if record is None:
                self._find("output", "the manifest lacks this tensor", file, header.name)
                continue
            digest = hash_blocks(array_blocks(array))
            problem = "not what the source yields"
            self._compare("output", problem, file, header.name, digest, record["sha256"])

    def _compare(
        self,
        side: str,
        problem: str,
        file: str,
        tensor: str | None,
        expected: object,
        found: object,
    ) -> None:
        if expected != found:
            self._find(side, problem, file, tensor, str(expected), str(found))

    def _find(self, side: str, problem: str, file: str, *rest: str | None) -> None:
        self.findings.append(Finding(side, problem, file, *rest))


def _manifest_table(values: Mapping[str, Any], *keys: str, folder: Path) -> Mapping[str, Any]:
    """Returns a table of the manifest.

    Raises:
        CheckpointError: It is missing.
    """
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"the manifest has no table {'.'.join(keys)!r}", file=folder / MANIFEST_NAME
        )
    return found


def _check_plain_name(name: str, folder: Path) -> str:
    """Returns the name if it is a plain file name.

    Raises:
        CheckpointError: It leads outside of the folder.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise CheckpointError(
            "the manifest names a file outside its folder",
            file=folder / MANIFEST_NAME,
            found=repr(name),
        )
    return name
