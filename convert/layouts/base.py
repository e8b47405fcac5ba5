"""Types of layouts: how they store the parameters of an expanded class, and their formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from equipoise.convert.core.ops import Op
from equipoise.convert.core.rules import Rule


@dataclass(frozen=True)
class LayoutView:
    """How one layout names and stores the parameters of a class.

    Attributes:
        rules: From parameters to stored names. There may be a rule for a parameter in ``shared``: its name is
            then accepted in files and not required.
        aliases: Other names that are accepted in files -> the name in ``rules``.
        shared: Tied parameters that are not stored: parameter -> the parameter whose tensor it uses.
        repeated: Tied parameters that are stored and may be missing in files: parameter -> the parameter
            whose tensor replaces it.
        refused: Parameters that cannot be stored -> the reason.
        left_out: Parameters that are not stored because they follow from the config -> the reason.
        dtypes: Parameters with a fixed dtype -> the dtype.
        ignored: Templates of names that files may have and that are not needed -> the reason; ``x/`` stands for all below x.
        groups: Stored name -> top-level layer in a Keras HDF5 file.
        also_in: Top-level layer -> stored names of other layers that it lists too.
        known_difference: Why the class computes other outputs than PyTorch's from the same weights; empty if it
            does not.
        unproven: What about these names and operations no code of others has judged; empty if it was.
        root: First component of the full variable names in a Keras HDF5 file.
        roots: Stored name -> its root if it differs; empty for none.
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
    unproven: str = ""
    root: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A file format: a layout in a container.

    Attributes:
        name: e.g. ``tensorflow-h5``.
        container: Module of :mod:`equipoise.convert.containers`.
        filename: File name of transformers, e.g. ``tf_model.h5``, or the path of the file that stands for a folder.
        metadata: Metadata that is written.
        writable: Whether it can be written.
        splits: Whether it is written in several files beyond a size.
        further_files: What names of tensors begin with -> the file beside the first that these are in.
    """

    name: str
    container: str
    filename: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    writable: bool = True
    splits: bool = True
    further_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterSpelling:
    """How a layout stores one parameter of a kind: name, operations from PyTorch's axis order, fixed dtype."""

    name: str
    ops: tuple[Op, ...] = ()
    dtype: str | None = None
