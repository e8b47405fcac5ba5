"""What a layout module hands out: the view of an expanded architecture, and the formats it comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from equipoise.convert.core.ops import Op
from equipoise.convert.core.rules import Rule


@dataclass(frozen=True)
class LayoutView:
    """An expansion as one layout stores it.

    Attributes:
        rules: From parameters to the names this layout stores. A rule for a parameter in ``shared`` may be
            there: its name is accepted when reading and not needed.
        aliases: Other spellings it accepts when reading -> the name in ``rules``.
        shared: Parameters that it stores once with another, although they have a name of their own:
            parameter -> the parameter whose tensor it is.
        repeated: Parameters that it writes although they repeat another, and that may be missing in files:
            parameter -> the parameter whose tensor serves then.
        refused: Parameters that it has no place for -> the reason.
        left_out: Parameters that it does not store because they follow from the config -> the reason.
        dtypes: Parameters with a dtype of their own here -> the dtype.
        ignored: Templates of names that it may carry without need -> the reason.
        groups: Stored name -> top-level layer in a Keras HDF5 file.
        also_in: Top-level layer -> stored names that it lists too.
        wrong: Why the class here answers otherwise than PyTorch's from the same weights; empty when it does not.
        root: First component of the full variable names in a Keras HDF5 file.
        roots: Stored name -> its root where it is another; empty for none.
    """

    rules: tuple[Rule, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    also_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known_difference: str = ""
    root: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A container that a layout comes in.

    Attributes:
        name: e.g. ``tensorflow-h5``.
        container: Module of :mod:`equipoise.convert.containers`.
        filename: The file that transformers looks for, e.g. ``tf_model.h5``.
        metadata: What the file says about itself.
        writable: Whether we write it.
    """

    name: str
    container: str
    filename: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    writable: bool = True


@dataclass(frozen=True)
class ParameterSpelling:
    """How a layout spells one leaf of one kind: its name, the way from PyTorch's axes, a dtype of its own."""

    name: str
    ops: tuple[Op, ...] = ()
    dtype: str | None = None
