"""The context manager that writers of containers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class WriterContext(ABC):
    """Finishes a file at the end of a ``with`` block, or closes it unfinished after an error."""

    @abstractmethod
    def close(self) -> None:
        """Finishes the file and flushes it to disk."""

    @abstractmethod
    def abort(self) -> None:
        """Closes the unfinished file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self.close()
        else:
            self.abort()
