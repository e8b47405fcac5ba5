"""A checkpoint of any layout as PyTorch's parameters: lazy, ties resolved, computed tensors generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from equipoise.convert.architecture import Match
from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.errors import CheckpointError
from equipoise.convert.expand import Parameter
from equipoise.convert.generate import generate
from equipoise.convert.ops import apply_all
from equipoise.convert.rule import Rule
from equipoise.convert.tensor import Array, DType, TensorRef, dtype_named


@dataclass(frozen=True)
class Canonical:
    """The parameters of a checkpoint, by the names that PyTorch gives them in every class.

    Attributes:
        tensors: Parameter -> a reference that reads and permutes when asked.
        stored: Parameter -> the names in the files that it comes from; nothing for a computed one.
        tied: Parameter without a tensor of its own -> the parameter whose tensor it is.
        computed: Parameter without a tensor -> its generator.
        unknown: Tensors that belong to no parameter, by their names in the files.
        ignored: Names in the files that are not needed -> the reason.
    """

    tensors: Mapping[str, TensorRef]
    stored: Mapping[str, tuple[str, ...]]
    tied: Mapping[str, str]
    computed: Mapping[str, str]
    unknown: Mapping[str, TensorRef] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)


def canonical(checkpoint: Checkpoint, match: Match) -> Canonical:
    """The checkpoint's tensors by PyTorch's parameters; nothing is read.

    Raises:
        CheckpointError: A tensor's shape does not fit its rule.
    """
    return _Builder(checkpoint, match).build()


class _Builder:
    def __init__(self, checkpoint: Checkpoint, match: Match) -> None:
        self.checkpoint = checkpoint
        self.match = match
        self.refs = checkpoint.in_layout(match.layout)
        self.inverse = {name: rule.inverse for rule in match.view.rules for name in rule.sources}

    def build(self) -> Canonical:
        tensors: dict[str, TensorRef] = {}
        stored: dict[str, tuple[str, ...]] = {}
        tied: dict[str, str] = {}
        computed: dict[str, str] = {}
        for name, parameter in self.match.expansion.parameters.items():
            origin = self._origin(name)
            if origin is not None:
                tensors[name] = self._stored(name, origin)
                stored[name] = tuple(ref.name for ref in self._sources(origin))
                if origin != name:
                    tied[name] = origin
            elif parameter.generator is not None:
                tensors[name] = self._generated(parameter)
                computed[name] = parameter.generator
        return Canonical(
            tensors,
            stored,
            tied,
            computed,
            {ref.name: ref for name in self.match.unknown for ref in [self.refs[name]]},
            {self.refs[name].name: reason for name, reason in self.match.ignored.items()},
        )

    def _origin(self, name: str) -> str | None:
        """The parameter whose tensors are in the file for this one."""
        rule = self.inverse.get(name)
        if rule is not None and all(one in self.match.stored for one in rule.sources):
            return name
        view = self.match.view
        repeats = view.shared.get(name, view.repeated.get(name))
        return self._origin(repeats) if repeats is not None else None

    def _sources(self, origin: str) -> list[TensorRef]:
        return [self.refs[self.match.stored[one]] for one in self.inverse[origin].sources]

    def _stored(self, name: str, origin: str) -> TensorRef:
        rule, refs = self.inverse[origin], self._sources(origin)
        if not rule.ops:
            return replace(refs[0], name=name)
        try:
            shapes = rule.shapes(tuple(ref.shape for ref in refs))
        except ValueError as error:
            raise CheckpointError(
                f"its shape does not fit the architecture: {error}",
                file=refs[0].file,
                tensor=refs[0].name,
                found=list(refs[0].shape),
            ) from error
        index = rule.targets.index(origin)
        load = _loader(rule, refs, index)
        return TensorRef(name, refs[0].dtype, shapes[index], refs[0].file, load=load)

    def _generated(self, parameter: Parameter) -> TensorRef:
        dtype = dtype_named(parameter.dtype) if parameter.dtype else self._float_dtype()

        def load() -> Array:
            return generate(str(parameter.generator), parameter.shape, dtype)

        return TensorRef(parameter.name, dtype, parameter.shape, self.checkpoint.path, None, load)

    def _float_dtype(self) -> DType:
        """The dtype of the first floating tensor."""
        for ref in self.refs.values():
            if ref.dtype.kind == "f" or ref.dtype.name.startswith(("bfloat", "float8")):
                return ref.dtype
        return np.dtype("float32")


def _loader(rule: Rule, refs: list[TensorRef], index: int) -> Callable[[], Array]:
    def load() -> Array:
        return apply_all(rule.ops, tuple(ref.read() for ref in refs))[index]

    return load
