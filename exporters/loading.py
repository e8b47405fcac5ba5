"""Loads what the target ``stablehlo`` writes: as a function of JAX, or as a module of Flax.

Neither PyTorch nor transformers is needed: JAX, and for :func:`load_flax` Flax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.errors import ContainerError, InputError
from equipoise.convert.formats import flax_msgpack
from equipoise.exporters.weight_layout import nested

PROGRAM, WEIGHTS = "program.jax", "flax_model.msgpack"


@dataclass(frozen=True)
class JaxProgram:
    """A program and its weights.

    Attributes:
        exported: The program, of ``jax.export``; it takes the tree of weights and a dict of inputs.
        parameters: The weights as nested dicts in the Flax layout.
        inputs: Shape and dtype of each input by name; open sizes are symbols.
    """

    exported: Any
    parameters: dict[str, Any]
    inputs: Mapping[str, Any]

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """The outputs by name, from the weights as they were loaded.

        Raises:
            InputError: An input is missing, or there is none of that name.
        """
        return self.apply(self.parameters, inputs)

    def apply(self, parameters: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same with weights of the caller's: a pure function, for ``jax.jit`` and ``jax.grad``.

        Raises:
            InputError: An input is missing, or there is none of that name.
        """
        from jax import numpy as jnp

        if inputs.keys() != self.inputs.keys():
            raise InputError(
                "these are not the inputs of the program",
                expected=", ".join(self.inputs),
                found=", ".join(inputs) or "none",
            )
        given = {name: jnp.asarray(inputs[name], spec.dtype) for name, spec in self.inputs.items()}
        found: dict[str, Any] = self.exported.call(parameters, given)
        return found


def load_jax(folder: str | Path) -> JaxProgram:
    """The program of an artifact.

    Args:
        folder: What ``equipoise export --to stablehlo`` wrote.

    Raises:
        InputError: There is none, or it is damaged.
    """
    from jax import export
    from jax.tree_util import tree_unflatten

    path = Path(folder) / PROGRAM
    if not path.is_file():
        raise InputError(
            "there is no JAX program",
            file=path,
            hint="make one: equipoise export MODEL OUT --to stablehlo",
        )
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
        raise ContainerError("not a program of jax.export", file=path, found=error) from error
    args, _ = tree_unflatten(exported.in_tree, exported.in_avals)
    stored = flax_msgpack.read(Path(folder) / WEIGHTS).tensors
    weights = {name: tensor.read() for name, tensor in stored.items()}
    return JaxProgram(exported, nested(weights), args[1])


def load_flax(folder: str | Path) -> Any:
    """The program of an artifact as a ``flax.nnx.Module``.

    Its parameters have the names of the Flax layout (``model.bert.encoder.layer["0"].output.dense.kernel``), and
    change, train, shard and are saved like those of any module; calling it with inputs by name gives a dict of outputs.

    Args:
        folder: What ``equipoise export --to stablehlo`` wrote.

    Raises:
        InputError: There is none, or it is damaged.
    """
    from flax import nnx
    from jax import numpy as jnp

    program = load_jax(folder)

    class Node(nnx.Module):  # type: ignore[misc]
        """A level of the tree of weights."""

        def __init__(self, tree: Mapping[str, Any], kind: Any) -> None:
            for name, value in tree.items():
                below = nnx.BatchStat if name == "batch_stats" else kind
                whole = isinstance(value, Mapping)
                made = Node(value, below) if whole else kind(jnp.asarray(value))
                setattr(self, name, made)

        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

    class Model(Node):
        """The weights, and the program that uses them."""

        def __call__(self, **inputs: Any) -> dict[str, Any]:
            return program.apply(nnx.to_pure_dict(nnx.state(self)), inputs)

    return Model(program.parameters, nnx.Param)
