"""Executes a plan: streams tensors into the target's files and hashes everything that is read and written."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from equipoise.convert.containers import container_module
from equipoise.convert.containers.base import Writer
from equipoise.convert.conversion import manifest
from equipoise.convert.conversion.companions import write_companions
from equipoise.convert.conversion.manifest import Manifest
from equipoise.convert.conversion.plan_types import Plan, Shard, Step
from equipoise.convert.conversion.transform import check_values, is_copy, target_streams
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.hashing import BackgroundHasher, hash_blocks, hash_file
from equipoise.convert.core.tensor import TensorHeader
from equipoise.convert.files.atomic import write_atomic
from equipoise.convert.files.identity import check_unchanged
from equipoise.convert.files.output_folder import OutputFolder

Progress = Callable[[int, int, str], None]
"""Called with bytes written, total bytes, and the current tensor."""

PendingHashes = dict[str, Future[str]]
"""Tensor name -> its hash, computed in the background."""


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
    folder.open((plan.checkpoint.path, *identities, *_config_file(plan)), plan.nbytes)
    try:
        with folder.errors(), BackgroundHasher() as hashing:
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


def fingerprint(plan: Plan) -> str:
    """Returns a hash that identifies a conversion: identities of the source's files, target, and every step."""
    sources = [(str(path), identity) for path, identity in plan.checkpoint.identities.items()]
    shards = [(shard.filename, shard.steps, shard.aliases) for shard in plan.shards]
    text = repr((manifest.library_versions(), sources, plan.target.name, plan.dtype, shards))
    return hashlib.sha256(text.encode()).hexdigest()


def _config_file(plan: Plan) -> tuple[Path, ...]:
    config = plan.checkpoint.config
    return (config.file,) if config is not None and config.file is not None else ()


class _PlanExecution:
    def __init__(
        self, plan: Plan, folder: OutputFolder, hashing: BackgroundHasher, progress: Progress | None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.hashing = hashing
        self.progress = progress
        self.done = 0
        self._reading: deque[Future[str]] = deque()

    def run(self) -> Manifest:
        for check in self.plan.checks:
            check_values(check, self.plan.checkpoint.tensors)
        source_files = {path.name: self.hashing.file(path) for path in self.plan.checkpoint.files}
        target_files: dict[str, str] = {}
        records = {}
        for shard in self.plan.shards:
            records[shard.filename], target_files[shard.filename] = self._write_shard(shard)
        others = write_companions(self.plan, self.folder.partial)
        companions = {name: self.hashing.file(self.folder.partial / name) for name in others}
        result = manifest.build_manifest(
            self.plan,
            records,
            {name: future.result() for name, future in source_files.items()},
            target_files,
            {name: future.result() for name, future in companions.items()},
        )
        write_atomic(self.folder.partial / manifest.MANIFEST_NAME, result.text())
        return result

    def _write_shard(self, shard: Shard) -> tuple[dict[str, Any], str]:
        """Writes a file; returns the record of its tensors for the manifest, and the file's hash."""
        path = self.folder.partial / shard.filename
        finished = self.folder.finished.get(shard.filename)
        if finished is not None and self._is_intact(path, finished):
            self._report_progress(
                sum(header.nbytes for header in shard.headers if not header.alias_of), ""
            )
            return finished["record"], finished["sha256"]
        metadata = {
            **self.plan.target.metadata,
            **({"variant": shard.variant} if shard.variant else {}),
        }
        sources: PendingHashes = {}
        targets: PendingHashes = {}
        writer_class = container_module(self.plan.target.container).Writer
        with writer_class(path, shard.headers, metadata) as writer:
            follower = self.hashing.follow_file(path)
            for step in shard.steps:
                self._run_step(step, writer, sources, targets)
                follower.hash_up_to(writer.finished_bytes)
        record = self._record(shard, sources, targets)
        digest = follower.result().result()
        self.folder.finish_file(shard.filename, digest, record)
        return record, digest

    def _is_intact(self, path: Path, finished: Mapping[str, Any]) -> bool:
        """Whether a file of an earlier run has its hash still, and the source the tensors that it was made of."""
        hashes: Mapping[str, str] = finished["record"]["sources"]
        return hash_file(path) == finished["sha256"] and all(
            hash_blocks(self.plan.checkpoint[name].blocks()) == digest
            for name, digest in hashes.items()
        )

    def _run_step(
        self, step: Step, writer: Writer, sources: PendingHashes, targets: PendingHashes
    ) -> None:
        refs = [self.plan.checkpoint[name] for name in step.sources]
        if is_copy(step, refs[0] if refs else None):
            self._write_tensor(writer, step.targets[0], refs[0].blocks(), targets)
            sources[refs[0].name] = targets[step.targets[0].name]
            return
        arrays: dict[str, Array] = {}
        for ref in refs:
            self._wait_for_memory()
            arrays[ref.name] = ref.read()
            sources[ref.name] = self.hashing.hash_array(arrays[ref.name])
            self._reading.append(sources[ref.name])
        for header, pieces in target_streams(step, arrays):
            self._write_tensor(writer, header, pieces, targets)

    def _wait_for_memory(self) -> None:
        """Waits until at most one array that is no longer needed is still being hashed."""
        while len(self._reading) > 1:
            self._reading.popleft().result()

    def _write_tensor(
        self,
        writer: Writer,
        header: TensorHeader,
        pieces: Iterable[memoryview],
        targets: PendingHashes,
    ) -> None:
        digest = self.hashing.new_stream()
        writer.write(header.name, digest.tee(pieces))
        targets[header.name] = digest.result()
        self._report_progress(header.nbytes, header.name)

    def _record(
        self, shard: Shard, sources: PendingHashes, targets: PendingHashes
    ) -> dict[str, Any]:
        tensors: dict[str, Any] = {
            header.name: {
                "sha256": targets[header.name].result(),
                "dtype": header.dtype.name,
                "shape": list(header.shape),
                "file": shard.filename,
                "sources": list(step.sources),
                "operations": manifest.describe_step(step),
            }
            for step in shard.steps
            for header in step.targets
        }
        for alias in shard.aliases:
            if alias.name != alias.alias_of:
                tensors[alias.name] = {"alias_of": alias.alias_of, "file": shard.filename}
        hashes = {name: future.result() for name, future in sources.items()}
        return {"tensors": tensors, "sources": hashes}

    def _report_progress(self, nbytes: int, name: str) -> None:
        self.done += nbytes
        if self.progress is not None:
            self.progress(self.done, self.plan.nbytes, name)
