"""What a search for weights in a folder finds: the files, or the error that there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError

_MAX_LISTED = 12


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a checkpoint.

    Attributes:
        files: The file, the index of shards, or the shards where there is no index.
        notes: Which of several was taken and why, where the names alone do not say it.
        is_standard: Whether the classes of transformers find them by themselves.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    is_standard: bool = True

    @property
    def entry(self) -> Path:
        """The first file: the one that stands for all in messages."""
        return self.files[0]


def several_weights(
    folder: Path,
    what: str,
    found: Sequence[Path],
    named: str | None = None,
    *,
    option: str = "",
) -> CheckpointError:
    """Returns the error for a folder with several weights of which nothing says which is meant.

    Args:
        folder: The folder.
        what: What there are several of, in the plural.
        found: Their paths.
        named: What the file ``checkpoint`` names, which is not there.
        option: What else the advice says.
    """
    names = [str(path.relative_to(folder)) for path in found]
    more = f", and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    sign = f"; the file `checkpoint` names {named!r}, which is not there" if named else ""
    return CheckpointError(
        f"{len(names)} {what} in this folder, and nothing says which is meant{sign}",
        file=folder,
        found=", ".join(names[:_MAX_LISTED]) + more,
        hint=f"give one of them, e.g. {found[-1]}{option}",
    )
