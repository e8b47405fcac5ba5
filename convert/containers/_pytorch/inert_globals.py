"""A table of globals for pickles that hold objects of a program's own classes: such objects keep their state and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from equipoise.convert.containers._pytorch.allowed_globals import ALLOWED_GLOBALS
from equipoise.convert.containers._pytorch.pickle_values import Global, Instance


class InertGlobals(Mapping[str, object]):
    """The globals of a checkpoint, and every class whose name begins with one of some prefixes; none is imported.

    Args:
        prefixes: What names of further classes begin with; an object of theirs becomes an :class:`Instance`.
        further: Further globals by ``module.name``.
    """

    def __init__(
        self, prefixes: tuple[str, ...], further: Mapping[str, object] | None = None
    ) -> None:
        self._prefixes = prefixes
        self._known: dict[str, object] = {**ALLOWED_GLOBALS, **(further or {})}

    def __contains__(self, name: object) -> bool:
        return name in self._known or str(name).startswith(self._prefixes)

    def __getitem__(self, name: str) -> object:
        if name in self._known:
            return self._known[name]
        if name not in self:
            raise KeyError(name)
        return Global(name, lambda arguments: Instance(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
