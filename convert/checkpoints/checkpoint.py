"""A checkpoint: a lazy mapping from names in files to tensors, with its config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.files.identity import FileIdentity
from equipoise.convert.folders.quantization import quantization_method
from equipoise.convert.layouts import layout_module


@dataclass(frozen=True)
class Checkpoint(Mapping[str, TensorRef]):
    """An opened checkpoint: a lazy mapping from names in the files to tensors.

    Attributes:
        path: What was opened.
        container: Module of :mod:`equipoise.convert.containers`.
        variant: Variant of the container, e.g. ``keras`` or ``flat`` in HDF5.
        layout: ``pytorch``, ``tensorflow`` or ``flax`` if the files declare it, else None.
        files: The files, in the order of the index.
        tensors: References by the names in the files.
        config: ``config.json`` next to the files, or None.
        metadata: Metadata of the files.
        left_out: Entries that are not weights -> the reason.
        oddities: Remarks for a person.
        has_separate_config: Whether the caller gave a config that is not next to the weights.
        prefix: What the names of the weights begin with in the files, e.g. ``state_dict.``; no layout has it.
        is_standard: Whether the classes of transformers find and load these files by themselves.
        choices: The caller's ``subtree``, ``variant``, ``dequantize`` and ``merge_adapter``, where they were given.
        identities: Every file that holds tensors -> what it was before it was read.
    """

    path: Path
    container: str
    variant: str
    layout: str | None
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorRef]
    config: Config | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    has_separate_config: bool = False
    prefix: str = ""
    is_standard: bool = True
    choices: Mapping[str, str | bool] = field(default_factory=dict)
    identities: Mapping[Path, FileIdentity] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TensorRef:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def folder(self) -> Path:
        """The folder of the companion files: that of the config, else that of the weights."""
        if (
            self.config is not None
            and self.config.file is not None
            and not self.has_separate_config
        ):
            return self.config.file.parent
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def named_files(self) -> dict[str, Path]:
        """The files by their names; where two have one name, by their paths below the folder of the first file."""
        counts = Counter(path.name for path in self.files)
        base = self.files[0].parent
        return {
            path.relative_to(base).as_posix()
            if counts[path.name] > 1 and base in path.parents
            else path.name: path
            for path in self.files
        }

    @property
    def quantization(self) -> str | None:
        """What quantized the weights, or None for weights that are plain numbers."""
        return quantization_method(self.config.values if self.config else {}, self.tensors)

    def in_layout(self, layout: str, prefix: str = "") -> dict[str, TensorRef]:
        """Returns the tensors by their names in a layout.

        A Keras model of one's own may hold layers besides a model of transformers, ``head_a/kernel`` and ``head_b/kernel``: names that
        would be equal without their first part keep it.

        Args:
            layout: The layout.
            prefix: What a class that wraps the model put before the names; it is removed where it stands.

        Raises:
            CheckpointError: Two names of the file map to one name of the layout.
        """
        names = self._names_in(layout)
        return self._renamed({name: names[name].removeprefix(prefix) for name in self.tensors})

    def _names_in(self, layout: str) -> dict[str, str]:
        """Returns the name in a layout for each name in the files."""
        decode = layout_module(layout).decode
        bare = {name: name.removeprefix(self.prefix) for name in self.tensors}
        names = {one: decode(name, self.container, self.variant) for one, name in bare.items()}
        counts = Counter(names.values())
        return {
            one: name if counts[name] == 1 else decode(bare[one], self.container, "")
            for one, name in names.items()
        }

    def in_names_of_files(self) -> dict[str, TensorRef]:
        """Returns the tensors by their whole names in the files, without what a container (``:0``) and wrappers (``module.``) add.

        Raises:
            CheckpointError: Two names of the files are one without it.
        """
        decode = layout_module(self.layout or "pytorch").decode
        return self._renamed(
            {
                name: decode(name.removeprefix(self.prefix), self.container, "")
                for name in self.tensors
            }
        )

    def _renamed(self, names: Mapping[str, str]) -> dict[str, TensorRef]:
        """Returns the tensors under other names.

        Raises:
            CheckpointError: Two tensors come to have one name, so that one would be lost.
        """
        found: dict[str, TensorRef] = {}
        for name, ref in self.tensors.items():
            if names[name] in found:
                first = name.removesuffix(names[name]).rstrip(".")
                raise CheckpointError(
                    f"two tensors have the name {names[name]!r} without the prefixes of wrappers",
                    file=ref.file,
                    tensor=name,
                    found=found[names[name]].name,
                    hint=f"take one of the two models with --subtree {first}" if first else None,
                )
            found[names[name]] = ref
        return found
