"""Describes a checkpoint from headers alone, for any file of a known container."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.find_class import find_class
from equipoise.convert.checkpoints.matching import ClassMatch
from equipoise.convert.checkpoints.parameters import checkpoint_parameters
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, SpecError
from equipoise.convert.core.tensor import TensorRef


@dataclass(frozen=True)
class FoundArchitecture:
    """The class that fits the tensors best.

    Attributes:
        model_type: e.g. ``bert``.
        cls: PyTorch's name of the class.
        named: The class that the config names, or None.
        layout: The layout of the tensor names.
        unknown: Tensors that the class does not have.
        missing: Tensors that the class has and the files do not.
    """

    model_type: str
    cls: str
    named: str | None
    layout: str
    unknown: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether no tensor is unknown or missing."""
        return not self.unknown and not self.missing


@dataclass(frozen=True)
class Survey:
    """The description of a checkpoint.

    Attributes:
        checkpoint: The checkpoint.
        files: The files with their sizes.
        architecture: The class that fits, or None.
        problem: Why no class was found.
        totals: dtype -> (tensors, elements, bytes).
        ties: Parameter or tensor -> the one whose bytes it shares.
        oddities: Remarks for the user.
    """

    checkpoint: Checkpoint
    files: tuple[tuple[Path, int], ...]
    architecture: FoundArchitecture | None
    problem: str
    totals: Mapping[str, tuple[int, int, int]]
    ties: Mapping[str, str]
    oddities: tuple[str, ...]

    @property
    def layout(self) -> str | None:
        """The layout of the tensor names if a class fits, else the one that the files declare."""
        if self.architecture is not None and self.architecture.fits:
            return self.architecture.layout
        return self.checkpoint.layout


def survey_checkpoint(checkpoint: Checkpoint, architecture: str | None = None) -> Survey:
    """Describes an opened checkpoint; reads no tensor.

    Args:
        checkpoint: An opened checkpoint.
        architecture: A model type or class to use instead of the config's.
    """
    match, problem = _find_match(checkpoint, architecture)
    found = _describe_match(checkpoint, match) if match is not None else None
    return Survey(
        checkpoint,
        tuple((path, path.stat().st_size) for path in checkpoint.files),
        found,
        problem,
        _totals(checkpoint.tensors),
        {**_shared_bytes(checkpoint.tensors), **_known_ties(checkpoint, match)},
        (*checkpoint.oddities, *_remarks(checkpoint, found), *(match.notes if match else ())),
    )


def _find_match(checkpoint: Checkpoint, architecture: str | None) -> tuple[ClassMatch | None, str]:
    try:
        return find_class(checkpoint, architecture), ""
    except (ArchitectureError, SpecError, CheckpointError) as error:
        if architecture is not None:
            raise
        return None, error.message


def _describe_match(checkpoint: Checkpoint, match: ClassMatch) -> FoundArchitecture:
    spec, cls = match.expansion.spec, match.expansion.cls
    named = checkpoint.config.architectures[:1] if checkpoint.config else ()
    refs = checkpoint.in_layout(match.layout, match.prefix)
    return FoundArchitecture(
        spec.model_type,
        cls.name,
        named[0] if named else None,
        match.layout,
        tuple(refs[name].name for name in match.unknown),
        match.missing,
    )


def _totals(tensors: Mapping[str, TensorRef]) -> dict[str, tuple[int, int, int]]:
    totals: dict[str, tuple[int, int, int]] = {}
    for ref in tensors.values():
        count, size, nbytes = totals.get(ref.dtype.name, (0, 0, 0))
        totals[ref.dtype.name] = (count + 1, size + ref.size, nbytes + ref.nbytes)
    return dict(sorted(totals.items(), key=lambda item: -item[1][2]))


def _shared_bytes(tensors: Mapping[str, TensorRef]) -> dict[str, str]:
    """Returns names that share bytes of a file -> the first of them."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, ref in tensors.items():
        if ref.identity is not None and ref.size > 0:
            groups[ref.identity].append(name)
    return {name: names[0] for names in groups.values() for name in names[1:]}


def _known_ties(checkpoint: Checkpoint, match: ClassMatch | None) -> Mapping[str, str]:
    """Returns tied parameters that the files do not store -> the parameter whose tensor they use."""
    if match is None or not match.fits:
        return {}
    return checkpoint_parameters(checkpoint, match).tied


def _remarks(checkpoint: Checkpoint, found: FoundArchitecture | None) -> list[str]:
    if found is None:
        return []
    remarks = []
    declared = checkpoint.layout
    if found.fits and declared is not None and declared != found.layout:
        remarks.append(f"the file says its layout is {declared}; its names are {found.layout}'s")
    if not found.fits:
        remarks.append(
            f"nearest to {found.cls}: {len(found.unknown)} tensors are unknown to it, "
            f"{len(found.missing)} of its tensors are missing"
        )
    elif found.named is not None and found.named != found.cls:
        remarks.append(f"the config names {found.named}; the tensors are those of {found.cls}")
    if any(ref.size == 0 for ref in checkpoint.tensors.values()):
        remarks.append("some tensors have no elements")
    return remarks
