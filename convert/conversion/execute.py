"""Executes a plan: streams tensors into the target's files and hashes everything that is read and written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from equipoise.convert.containers import container_module
from equipoise.convert.containers.base import Writer
from equipoise.convert.conversion import manifest
from equipoise.convert.conversion.companions import write_companions
from equipoise.convert.conversion.manifest import Manifest, TensorHashes
from equipoise.convert.conversion.plan_types import Plan, Shard, Step
from equipoise.convert.conversion.stacks import cut_stack
from equipoise.convert.conversion.transform import check_values, is_copy, target_streams
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.hashing import PassingHash, hash_blocks, hash_file
from equipoise.convert.core.json_values import describe_mismatch
from equipoise.convert.core.tensor import TensorHeader, TensorRef, array_blocks
from equipoise.convert.files.atomic import write_atomic
from equipoise.convert.files.file_hasher import FileHasher
from equipoise.convert.files.identity import check_unchanged
from equipoise.convert.files.output_folder import OutputFolder

Progress = Callable[[int, int, str], None]
"""Called with bytes written, total bytes, and the current tensor."""

_ALIGNMENT = 64
"""Arrays in memory begin at multiples of this, in bytes."""

_RECORD_SHAPE = {"sources": {str: str}, "targets": {str: str}}
"""What is saved of a finished file."""


def execute(
    plan: Plan, output: str | Path, *, force: bool = False, progress: Progress | None = None
) -> Manifest:
    """Executes a plan.

    The folder appears at its final path when it is complete and flushed to disk. A killed run leaves a hidden
    folder next to it; the same run keeps that folder's finished files.

    Args:
        plan: The plan.
        output: The folder to write.
        force: Replaces an existing folder.
        progress: Called after every tensor.

    Raises:
        OutputError: The folder cannot be written; nothing is left behind.
        ContainerError: A source file is not what its header said; nothing is left behind.
        CoverageError: A tensor's values forbid the plan; nothing is left behind.
    """
    identities = plan.checkpoint.identities
    check_unchanged(identities)
    folder = OutputFolder(Path(output), force=force, fingerprint=fingerprint(plan))
    folder.open(_places_of_source(plan), plan.nbytes)
    try:
        with folder.errors(), FileHasher() as hashing:
            result = _PlanExecution(plan, folder, hashing, progress).run()
        check_unchanged(identities)
        folder.commit()
    except EquipoiseError as error:
        error.rename_path(folder.partial, str(folder.path))
        folder.discard()
        raise
    finally:
        folder.release()
    return result


def check_output(plan: Plan, output: str | Path, *, force: bool = False) -> None:
    """Checks whether a plan could be executed into a folder; changes nothing.

    Raises:
        OutputError: The folder may not be written or replaced.
    """
    folder = OutputFolder(Path(output), force=force, fingerprint="")
    folder.check(_places_of_source(plan))


def _places_of_source(plan: Plan) -> tuple[Path, ...]:
    return (plan.checkpoint.path, *plan.checkpoint.identities, *_config_file(plan))


def fingerprint(plan: Plan) -> str:
    """Returns a hash that identifies a conversion: identities of the source's files, target, and every step."""
    sources = [(str(path), identity) for path, identity in plan.checkpoint.identities.items()]
    head = (manifest.MANIFEST_FORMAT, manifest.library_versions(), sources)
    state = hashlib.sha256(repr((head, plan.target.name, plan.dtype)).encode())
    for shard in plan.shards:
        state.update(repr((shard.filename, shard.aliases)).encode())
        for step in shard.steps:
            state.update(repr(step).encode())
    return state.hexdigest()


def _config_file(plan: Plan) -> tuple[Path, ...]:
    config = plan.checkpoint.config
    return (config.file,) if config is not None and config.file is not None else ()


class SourceReader:
    """Reads and hashes the sources of a step into memory that the next step uses again: new memory takes time."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def read(self, refs: Sequence[TensorRef]) -> tuple[dict[str, Array], dict[str, str]]:
        """Returns arrays, which are valid until the next call, and hashes by the names of the tensors."""
        ends = [*accumulate((-(-ref.nbytes // _ALIGNMENT) * _ALIGNMENT for ref in refs), initial=0)]
        if ends[-1] > len(self._memory):
            self._memory = np.empty(0, np.uint8)
            self._memory = np.empty(ends[-1], np.uint8)
        arrays: dict[str, Array] = {}
        hashes: dict[str, str] = {}
        for ref, start in zip(refs, ends, strict=False):
            if ref.extent is None:
                arrays[ref.name] = ref.read()
                hashes[ref.name] = hash_blocks(array_blocks(arrays[ref.name]))
            else:
                room = self._memory[start : start + ref.nbytes]
                hashes[ref.name] = hash_blocks(ref.extent.blocks(room=room.data))
                arrays[ref.name] = room.view(ref.dtype).reshape(ref.shape)
        return arrays, hashes


class _PlanExecution:
    def __init__(
        self, plan: Plan, folder: OutputFolder, hashing: FileHasher, progress: Progress | None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.hashing = hashing
        self.progress = progress
        self.done = 0
        self.total = plan.nbytes
        self.reader = SourceReader()

    def run(self) -> Manifest:
        for check in self.plan.checks:
            check_values(check, self.plan.checkpoint.tensors)
        named = self.plan.checkpoint.named_files
        source_files = {name: self.hashing.file(path) for name, path in named.items()}
        target_files: dict[str, str] = {}
        hashes: dict[str, TensorHashes] = {}
        for shard in self.plan.shards:
            hashes[shard.filename], files = self._write_shard(shard)
            target_files.update(files)
        others = write_companions(self.plan, self.folder.partial)
        companions = {name: self.hashing.file(self.folder.partial / name) for name in others}
        result = manifest.build_manifest(
            self.plan,
            hashes,
            {name: future.result() for name, future in source_files.items()},
            target_files,
            {name: future.result() for name, future in companions.items()},
        )
        write_atomic(self.folder.partial / manifest.MANIFEST_NAME, result.pieces())
        return result

    def _write_shard(self, shard: Shard) -> tuple[TensorHashes, dict[str, str]]:
        """Writes a file, and those that its container puts beside it; returns the hashes of its tensors, and of the files."""
        path = self.folder.partial / shard.filename
        finished = self._finished_shard(shard, path)
        if finished is not None:
            self._report_progress(
                sum(header.nbytes for header in shard.headers if not header.alias_of), ""
            )
            return finished[0], {shard.filename: finished[1]}
        metadata = {
            **self.plan.target.metadata,
            **({"variant": shard.variant} if shard.variant else {}),
        }
        hashes = TensorHashes({}, {})
        writer_class = container_module(self.plan.target.container).Writer
        with writer_class(path, shard.headers, metadata) as writer:
            follower = self.hashing.follow_file(path)
            for step in shard.steps:
                self._run_step(step, writer, hashes)
                follower.hash_up_to(writer.finished_bytes)
        files = {shard.filename: follower.result().result()}
        for other in getattr(writer, "further_files", ()):
            files[other.relative_to(self.folder.partial).as_posix()] = hash_file(other)
        if len(files) == 1:  # a checkpoint of several files is written again by a later run
            record = {"sources": hashes.sources, "targets": hashes.targets}
            self.folder.finish_file(shard.filename, files[shard.filename], record)
        return hashes, files

    def _finished_shard(self, shard: Shard, path: Path) -> tuple[TensorHashes, str] | None:
        """Returns the hashes of a file of an earlier run; None if there is none, or it or its source has changed."""
        finished = self.folder.finished.get(shard.filename)
        if finished is None:
            return None
        record = self.folder.read_record(shard.filename)
        if describe_mismatch(record, _RECORD_SHAPE) is not None:
            return None
        hashes = TensorHashes(record["sources"], record["targets"])
        is_intact = (
            hashes.sources.keys() == {name for step in shard.steps for name in step.sources}
            and hashes.targets.keys() == {one.name for step in shard.steps for one in step.targets}
            and hash_file(path) == finished["sha256"]
            and all(
                hash_blocks(self.plan.checkpoint[name].blocks()) == digest
                for name, digest in hashes.sources.items()
            )
        )
        return (hashes, finished["sha256"]) if is_intact else None

    def _run_step(self, step: Step, writer: Writer, hashes: TensorHashes) -> None:
        refs = [self.plan.checkpoint[name] for name in step.sources]
        if is_copy(step, refs[0] if refs else None):
            digest = self._write_tensor(writer, step.targets[0], refs[0].blocks())
            hashes.sources[refs[0].name] = hashes.targets[step.targets[0].name] = digest
            return
        parts = cut_stack(step, refs)
        if not parts:
            arrays, found = self.reader.read(refs)
            hashes.sources.update(found)
            self._write_targets(step, arrays, writer, hashes)
            return
        hashes.sources[refs[0].name] = hash_blocks(refs[0].blocks())
        for part in parts:
            self._write_targets(part.step, part.read(), writer, hashes)

    def _write_targets(
        self, step: Step, arrays: dict[str, Array], writer: Writer, hashes: TensorHashes
    ) -> None:
        for header, pieces in target_streams(step, arrays):
            hashes.targets[header.name] = self._write_tensor(writer, header, pieces)

    def _write_tensor(
        self, writer: Writer, header: TensorHeader, pieces: Iterable[memoryview]
    ) -> str:
        """Writes a tensor and returns its hash."""
        passing = PassingHash()
        writer.write(header.name, passing.tee(pieces))
        self._report_progress(header.nbytes, header.name)
        return passing.hexdigest()

    def _report_progress(self, nbytes: int, name: str) -> None:
        self.done += nbytes
        if self.progress is not None:
            self.progress(self.done, self.total, name)
