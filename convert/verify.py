"""Verifies a finished conversion against its manifest and, if given, against its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.conversion.companions import write_companions
from equipoise.convert.conversion.manifest import MANIFEST_NAME, Manifest
from equipoise.convert.conversion.plan_types import Plan, Step
from equipoise.convert.conversion.planner import plan
from equipoise.convert.conversion.stacks import cut_stack
from equipoise.convert.conversion.transform import check_values, target_arrays
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.convert.core.hashing import hash_blocks, hash_file
from equipoise.convert.core.tensor import TensorRef, array_blocks
from equipoise.convert.files.containment import reason_not_to_read
from equipoise.convert.files.ownership import list_entries

Progress = Callable[[str, int], None]
"""Called with the name of the file or tensor that is checked next, and its bytes."""


OPENING_OPTIONS = ("subtree", "variant", "dequantize")
"""Options of :func:`open_checkpoint` that are taken from the manifest: they choose among the source's own weights."""

_SHOWN_OPTIONS = (
    *OPENING_OPTIONS,
    "merge_adapter",
    "architecture",
    "allow",
    "allow_lossy",
    "unproven",
)


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
        foreign: Files of the folder that the manifest does not list and that no framework reads: README, licence,
            hidden files. Any other file that is not listed is a finding.
        options: Options of the conversion with which the source was converted again, as ``name=value``.
    """

    folder: Path
    files: int
    tensors: int
    derived: int
    findings: tuple[Finding, ...]
    foreign: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def verify(
    folder: str | Path,
    *,
    source: str | Path | None = None,
    config: str | Path | None = None,
    merge_adapter: str | Path | None = None,
    architecture: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Hashes every file and tensor again; with a source, also makes every file and tensor again.

    What is made again is compared with what the files hold, not with what the manifest says of them. Files that change
    what is made (an adapter, an architecture file) are those that the caller names, never those of the manifest.

    Args:
        folder: The output of a conversion.
        source: The checkpoint it came from.
        config: The source's ``config.json`` if it is not next to the weights.
        merge_adapter: The adapter that the conversion merged.
        architecture: The architecture file that the conversion was told.
        progress: Called with the name of the file or tensor that is checked next, and its bytes.

    Raises:
        CheckpointError: There is no manifest, or there is no checkpoint at ``source``.
        InputError: The conversion used an adapter or an architecture file, and none is given, or the reverse.
    """
    root = Path(folder)
    run = _Verifier(root, Manifest.read(root), progress or _ignore_progress)
    run.output()
    applied: tuple[str, ...] = ()
    if source is not None:
        given = _given_files(run.values["options"], merge_adapter, architecture)
        run.source(Path(source), config, given)
        options = {**run.values["options"], **given}
        applied = tuple(f"{one}={options[one]}" for one in _SHOWN_OPTIONS if options.get(one))
    return Verification(
        root, run.files, run.tensors, run.derived, tuple(run.findings), run.foreign, applied
    )


def _given_files(
    recorded: Mapping[str, Any], merge_adapter: str | Path | None, architecture: str | None
) -> dict[str, Any]:
    """Returns the adapter and the architecture of the caller; the manifest may only say that there was one.

    Raises:
        InputError: The conversion used one, and none is given, or the reverse.
    """
    named = str(recorded.get("architecture") or "")
    if bool(recorded.get("merge_adapter")) != (merge_adapter is not None):
        had = recorded.get("merge_adapter")
        raise InputError(
            f"the conversion merged the adapter {had}"
            if had
            else "the conversion merged no adapter",
            hint="say which adapter is meant with --merge-adapter" if had else None,
        )
    if named.endswith(".toml") and architecture is None:
        raise InputError(
            f"the conversion used the architecture file {named}",
            hint="say which file is meant with --architecture",
        )
    return {"merge_adapter": merge_adapter, "architecture": architecture or named or None}


def _ignore_progress(what: str, nbytes: int) -> None:
    """Does nothing."""


class _Verifier:
    def __init__(self, folder: Path, manifest: Manifest, progress: Progress) -> None:
        self.folder = folder
        self.values = manifest.values
        self.tensor_hash = manifest.tensor_hash
        self.progress = progress
        self.files = self.tensors = self.derived = 0
        self.findings: list[Finding] = []
        self.foreign: tuple[str, ...] = ()
        self._hashes: dict[str, str] = {}
        """Hash of each tensor that a file of the output holds."""

    def output(self) -> None:
        """Checks the files of the output and every tensor in them."""
        weights = self.values["target"]["files"]
        listed = {**weights, **self.values["companions"]}
        for name, digest in listed.items():
            self._file("output", self.folder / name, name, digest)
        # The other files of a checkpoint of several are read through the one that stands for it.
        for name in dict.fromkeys(one["file"] for one in self.values["tensors"].values()):
            if not reason_not_to_read(self.folder / name, self.folder):
                self._tensors(name)
        present = set(list_entries(self.folder)) - {MANIFEST_NAME}
        unlisted = sorted(present - listed.keys())
        self.foreign = tuple(name for name in unlisted if is_read_by_nobody(name))
        for name in unlisted:
            if name not in self.foreign:
                self._find("output", "the manifest does not list this file", name)

    def _file(self, side: str, path: Path, name: str, digest: object) -> None:
        self.progress(name, path.stat().st_size if path.is_file() else 0)
        if not path.is_file():
            self._find(side, "the file is missing", name)
            return
        if side == "output" and (reason := reason_not_to_read(path, self.folder)):
            self._find(side, f"not read, since it is {reason}", name)
            return
        self.files += 1
        self._compare(side, "the file has changed", name, None, digest, hash_file(path))

    def _tensors(self, file: str) -> None:
        """Checks the tensors of a file."""
        records = self.values["tensors"]
        listed = {name: record for name, record in records.items() if record["file"] == file}
        try:
            container = open_container(self.folder / file)
        except EquipoiseError as error:
            self._find("output", f"cannot be read: {error.message}", file, error.tensor)
            return
        tensors = container.tensors
        for name in tensors.keys() - listed.keys():
            self._find("output", "the manifest does not list this tensor", file, name)
        for name, record in listed.items():
            if name not in tensors:
                self._find("output", "the tensor is missing", file, name)
                continue
            self._tensor(file, tensors[name], records[record.get("alias_of", name)])

    def _tensor(self, file: str, ref: TensorRef, record: Mapping[str, Any]) -> None:
        self.progress(ref.name, ref.nbytes)
        self.tensors += 1
        expected = f"{record['dtype']} {record['shape']}"
        found = f"{ref.dtype.name} {list(ref.shape)}"
        self._compare("output", "the dtype or shape has changed", file, ref.name, expected, found)
        try:
            digest = hash_blocks(ref.blocks(), self.tensor_hash)
        except EquipoiseError as error:
            self._find("output", f"cannot be read: {error.message}", file, ref.name)
            return
        self._hashes[ref.name] = digest
        expected = record[self.tensor_hash]
        self._compare("output", "the tensor has changed", file, ref.name, expected, digest)

    def source(self, path: Path, config: str | Path | None, given: Mapping[str, Any]) -> None:
        """Checks the files of the source and makes every file and tensor of the output again."""
        options = self.values["options"]
        checkpoint = open_checkpoint(
            path,
            layout=self.values["route"][0],
            config=config,
            merge_adapter=given["merge_adapter"],
            **{name: options[name] for name in OPENING_OPTIONS if name in options},
        )
        listed = dict(self.values["source"]["files"])
        for name, file in checkpoint.named_files.items():
            if name not in listed:
                self._find("source", "the manifest does not list this file", name)
            else:
                self._file("source", file, name, listed.pop(name))
        for name in listed:
            self._find("source", "the file is missing", name)
        planned = self._planned(checkpoint, given["architecture"])
        if planned is not None:
            self._derive(planned)
            self._companions(planned)

    def _planned(self, checkpoint: Checkpoint, architecture: str | None) -> Plan | None:
        options = self.values["options"]
        try:
            return plan(
                checkpoint,
                self.values["target"]["format"],
                dtype=self.values["dtype"],
                architecture=architecture,
                allow=options.get("allow"),
                allow_lossy=bool(options.get("allow_lossy")),
                unproven=bool(options.get("unproven")),
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
        yielded: dict[str, str] = {}
        for shard in planned.shards:
            yielded |= {header.name: shard.filename for header in (*shard.headers, *shard.aliases)}
            for step in shard.steps:
                try:
                    self._step(step, planned.checkpoint, shard.filename)
                except EquipoiseError as error:
                    self._find("source", error.message, file, error.tensor)
            for alias in shard.aliases:
                if alias.alias_of is not None:
                    self._tied_tensor(shard.filename, alias.name, alias.alias_of)
        for name in sorted(self.values["tensors"].keys() - yielded.keys()):
            self._find("output", "nothing in the source yields this tensor", file, name)
        for name, record in self.values["tensors"].items():
            expected = yielded.get(name, record["file"])
            problem = "the manifest names another file for this tensor"
            self._compare("output", problem, expected, name, expected, record["file"])

    def _step(self, step: Step, checkpoint: Checkpoint, file: str) -> None:
        refs = [checkpoint[name] for name in step.sources]
        parts = cut_stack(step, refs)
        arrays: dict[str, Array] = {}
        for ref in refs:
            self.progress(ref.name, ref.nbytes)
            if not parts:
                arrays[ref.name] = ref.read()
            blocks = ref.blocks() if parts else array_blocks(arrays[ref.name])
            digest = hash_blocks(blocks, self.tensor_hash)
            expected = self.values["sources"].get(ref.name)
            problem = "the tensor has changed"
            self._compare("source", problem, ref.file.name, ref.name, expected, digest)
        for part in parts:
            self._targets(part.step, part.read(), file)
        if not parts:
            self._targets(step, arrays, file)

    def _targets(self, step: Step, arrays: Mapping[str, Array], file: str) -> None:
        for header, array in target_arrays(step, arrays):
            self.derived += 1
            if header.name not in self.values["tensors"]:
                self._find("output", "the manifest lacks this tensor", file, header.name)
            found = self._hashes.get(header.name)
            if found is not None:
                digest = hash_blocks(array_blocks(array), self.tensor_hash)
                problem = "not what the source yields"
                self._compare("output", problem, file, header.name, digest, found)

    def _tied_tensor(self, file: str, name: str, other: str) -> None:
        """Checks that a tensor that is stored twice is equal in both places."""
        if {name, other} <= self._hashes.keys():
            problem = f"not equal to {other!r}, to which it is tied"
            self._compare("output", problem, file, name, self._hashes[other], self._hashes[name])

    def _companions(self, planned: Plan) -> None:
        """Writes the config, the tokenizer ... again, into a temporary folder, and compares them with the output's."""
        with TemporaryDirectory() as folder:
            names = write_companions(planned, Path(folder))
            made = {name: hash_file(Path(folder) / name) for name in names}
        for name, digest in made.items():
            path = self.folder / name
            if path.is_file():
                problem = "not what the source yields"
                self._compare("output", problem, name, None, digest, hash_file(path))
            elif name not in self.values["companions"]:
                self._find("output", "the file is missing", name)
        for name in self.values["companions"].keys() - made.keys():
            self._find("output", "nothing in the source yields this file", name)

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


def is_read_by_nobody(path: str) -> bool:
    """Returns whether no framework reads a file of that path: documents, licences and hidden files.

    >>> [is_read_by_nobody(name) for name in ("README.md", "LICENSE", ".gitattributes", "vocab.txt", "model.py")]
    [True, True, True, False, False]
    """
    documents = ("README", "LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
    name = path.partition("/")[0]
    return name.startswith(".") or name.upper().partition(".")[0] in documents
