"""The error tree of the whole package.

EquipoiseError
├── InputError               the user's input is wrong; the command line exits with 2
│   ├── ContainerError       a file's bytes are not what its container requires
│   │   ├── UnsafePickleError    a pickle names a global that does not build tensors
│   │   └── UnsupportedDtypeError   a dtype that no other container can hold
│   ├── CheckpointError      files are missing, or do not belong together
│   ├── ArchitectureError    the architecture is unknown, or the config belongs to another model
│   ├── CoverageError        tensors are unknown, missing, wrongly shaped or cannot be represented
│   └── OutputError          the output folder cannot be written
├── SpecError                an architecture TOML is wrong (a defect of the spec, not of the input)
└── WorkerError              the process in another Python environment failed
    └── LimitError               it took longer than its time limit; the command line exits with 3

A message names the place (file, tensor), the expected and the found value, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class EquipoiseError(Exception):
    """Base class of every error that this package raises deliberately.

    Args:
        message: What is wrong.
        file: The file concerned.
        tensor: The tensor concerned.
        expected: The expected value.
        found: The found value.
        hint: What the reader can do about it.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        tensor: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.file = str(file) if file is not None else None
        self.tensor = tensor
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(self._text())

    def _text(self) -> str:
        where = ", ".join(
            part
            for part in (self.file, f"tensor {self.tensor!r}" if self.tensor else None)
            if part is not None
        )
        lines = [f"{where}: {self.message}" if where else self.message]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.hint is not None:
            lines.append(f"  to do:    {self.hint}")
        return "\n".join(lines)

    def rename_path(self, path: Path, name: str) -> None:
        """Names a path otherwise in the whole error: a temporary one as the user knows it."""
        for field in ("message", "file", "expected", "found", "hint"):
            value = getattr(self, field)
            if value is not None and str(path) in str(value):
                setattr(self, field, str(value).replace(str(path), name))
        self.args = (self._text(),)

    def as_dict(self) -> dict[str, object]:
        """Returns the error as plain data, for ``--json``."""
        fields = ("message", "file", "tensor", "expected", "found", "hint")
        values = {name: getattr(self, name) for name in fields}
        shown = {
            name: value if isinstance(value, (str, int)) else str(value)
            for name, value in values.items()
            if value is not None
        }
        return {"error": type(self).__name__, **shown}


class InputError(EquipoiseError):
    """The user's input is wrong."""


class ContainerError(InputError):
    """A file's bytes are not what its container requires: truncated, corrupt or malicious."""


class UnsafePickleError(ContainerError):
    """A pickle names a global other than those that build tensors; nothing was executed."""


class UnsupportedDtypeError(ContainerError):
    """A dtype that this tool cannot read, or that the target container cannot hold."""


class CheckpointError(InputError):
    """Files of a checkpoint are missing or do not belong together."""


class ArchitectureError(InputError):
    """The architecture is unknown, or the config and the tensors disagree about it."""


class CoverageError(InputError):
    """A plan that does not account for every tensor.

    Args:
        problems: One message for each tensor: its name, why it is refused, and what to do.
        summary: What the text says in their place, where many of them are one sentence.
    """

    def __init__(
        self,
        message: str,
        problems: Sequence[str],
        *,
        file: str | Path | None = None,
        summary: Sequence[str] | None = None,
    ) -> None:
        self.problems = tuple(problems)
        shown = self.problems if summary is None else summary
        super().__init__("\n  - ".join([message, *shown]), file=file)

    def as_dict(self) -> dict[str, object]:
        """Returns the error as plain data, with a list of the problems."""
        return {**super().as_dict(), "problems": list(self.problems)}


class OutputError(InputError):
    """The output folder cannot be written: it exists, is not permitted, or the disk is full."""


class SpecError(EquipoiseError):
    """An architecture TOML is not valid."""


class WorkerError(EquipoiseError):
    """The worker process in another Python environment failed or ended.

    Attributes:
        kind: The exception's class name in the worker; empty if the process itself failed.
    """

    kind = ""


class LimitError(WorkerError):
    """A worker process took longer than its time limit; nothing can be said about the model."""

    exit_code = 3
