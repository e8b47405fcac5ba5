"""Values of the pickle machine besides plain data: globals, and opaque values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_MAX_KEY_BITS = 64


class OpaqueKey:
    """Replaces a dict key whose hashing could take very long."""


@dataclass(frozen=True)
class Global:
    """An allowed global: its name, and a function that returns inert data instead of calling it.

    Attributes:
        name: ``module.name`` as in the pickle.
        build: Maps arguments to a value; None if it cannot be called.
    """

    name: str
    build: Callable[[tuple[object, ...]], object] | None = None


@dataclass(frozen=True)
class Opaque:
    """A value that is not a tensor and is not inspected.

    Attributes:
        what: A description for the user.
    """

    what: str


@dataclass(eq=False)
class Instance:
    """An object of a class that is not imported: what BUILD gives it is kept, and nothing is called.

    Attributes:
        name: The class, as ``module.name``.
        state: The attributes, as the pickle has them.
    """

    name: str
    state: object = None


def dict_key(key: object) -> object:
    """Returns the key if it can be hashed quickly and without crafted collisions, else a replacement."""
    if isinstance(key, int) and key.bit_length() > _MAX_KEY_BITS:
        return OpaqueKey()
    plain = key is None or isinstance(key, (str, bytes, int, float, Instance))
    return key if plain else OpaqueKey()
