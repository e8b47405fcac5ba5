"""Reads a checkpoint of any layout as PyTorch's parameters: lazily, with ties resolved and computed tensors filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from equipoise.convert.architectures.computed_tensors import compute_tensor
from equipoise.convert.architectures.expand import Parameter
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.matching import ClassMatch, MatchedCheckpoint
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.ops import apply_all
from equipoise.convert.core.rules import Rule
from equipoise.convert.core.tensor import TensorRef, dtype_named, first_float_dtype


@dataclass(frozen=True)
class CheckpointParameters:
    """The parameters of a checkpoint, by their PyTorch names including the base class's prefix.

    Attributes:
        tensors: Parameter -> a reference that reads and permutes on demand.
        stored: Parameter -> the names in the files that it comes from; none for a computed one.
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


def checkpoint_parameters(checkpoint: Checkpoint, match: ClassMatch) -> CheckpointParameters:
    """Returns the checkpoint's tensors by PyTorch's parameter names; reads no tensor.

    Raises:
        CheckpointError: A tensor's shape does not fit its rule.
    """
    source = MatchedCheckpoint(checkpoint, match)
    tensors: dict[str, TensorRef] = {}
    stored: dict[str, tuple[str, ...]] = {}
    tied: dict[str, str] = {}
    computed: dict[str, str] = {}
    for name, parameter in source.expansion.parameters.items():
        origin = source.origin(name)
        if origin is not None:
            refs = [source.ref(one) for one in source.inverse[origin].sources]
            tensors[name] = _stored_parameter(name, origin, source.inverse[origin], refs)
            stored[name] = tuple(ref.name for ref in refs)
            if origin != name:
                tied[name] = origin
        elif parameter.generator is not None:
            tensors[name] = _computed_parameter(source, parameter)
            computed[name] = parameter.generator
    return CheckpointParameters(
        tensors,
        stored,
        tied,
        computed,
        {source.refs[name].name: source.refs[name] for name in match.unknown},
        {source.refs[name].name: reason for name, reason in match.ignored.items()},
    )


def _stored_parameter(name: str, origin: str, rule: Rule, refs: list[TensorRef]) -> TensorRef:
    """Returns a parameter that the rule computes from tensors of the files."""
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


def _loader(rule: Rule, refs: list[TensorRef], index: int) -> Callable[[], Array]:
    def load() -> Array:
        return apply_all(rule.ops, tuple(ref.read() for ref in refs))[index]

    return load


def _computed_parameter(source: MatchedCheckpoint, parameter: Parameter) -> TensorRef:
    """Returns a parameter that follows from the config."""
    if parameter.dtype:
        dtype = dtype_named(parameter.dtype)
    else:
        dtype = first_float_dtype(source.refs.values())

    def load() -> Array:
        return compute_tensor(str(parameter.generator), parameter.shape, dtype)

    return TensorRef(parameter.name, dtype, parameter.shape, source.checkpoint.path, None, load)
