"""What a pickle machine knows besides plain data: names, and values that are not looked into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_MAX_KEY_BITS = 64


class OpaqueKey:
    """Stands for a dict key that is not hashed, because hashing it could take forever."""


@dataclass(frozen=True)
class Global:
    """What a pickle may name: a text, and what calling it makes (inert data); never the real thing.

    Attributes:
        name: ``module.name`` as the pickle spells it.
        build: From the arguments to a value; None when calling it has no meaning here.
    """

    name: str
    build: Callable[[tuple[object, ...]], object] | None = None


@dataclass(frozen=True)
class Opaque:
    """A value that is no tensor and is not looked into.

    Attributes:
        what: What it is, for a person.
    """

    what: str


def dict_key(key: object) -> object:
    """The key itself when it hashes at once and without crafted collisions, else a stand-in."""
    if isinstance(key, int) and key.bit_length() > _MAX_KEY_BITS:
        return OpaqueKey()
    plain = key is None or isinstance(key, (str, bytes, int, float))
    return key if plain else OpaqueKey()
