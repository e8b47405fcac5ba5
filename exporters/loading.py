"""Loads what the target ``stablehlo`` writes: as a function of JAX, or as a module of Flax.

Neither PyTorch nor transformers is needed: JAX, and for :func:`load_flax` Flax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.convert.containers import flax_msgpack
from equipoise.convert.core.errors import ContainerError, InputError
from equipoise.exporters.artifact import read
from equipoise.exporters.weight_layout import nested

PROGRAM, WEIGHTS = "program.jax", "flax_model.msgpack"
ROLES = ("encoder", "decoder", "decoder_with_past")
"""The programs of a model behind an encoder, where it keeps a cache: ``encoder.jax`` ..."""
PAST = "past_key_values."
OF_SIZES = ("Input shapes do not match", "Rank mismatch", "Shape mismatch", "Error refining shapes")
"""How messages of JAX begin that are about the sizes of inputs."""


@dataclass(frozen=True)
class JaxProgram:
    """A program and its weights.

    Attributes:
        exported: The program, of ``jax.export``; it takes the tree of weights and a dict of inputs.
        parameters: The weights as nested dicts in the Flax layout.
        inputs: Shape and dtype of each input by name; open sizes are symbols.
        limits: What ``artifact.json`` notes of the sizes that it takes, as far as that is known.
    """

    exported: Any
    parameters: dict[str, Any]
    inputs: Mapping[str, Any]
    limits: tuple[str, ...] = ()

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """The outputs by name, from the weights as they were loaded.

        Raises:
            InputError: An input is missing, or there is none of that name.
        """
        return self.apply(self.parameters, inputs)

    def apply(self, parameters: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same with weights of the caller's: a pure function, for ``jax.jit`` and ``jax.grad``.

        A past may be left out as a whole, and is empty then.

        Raises:
            InputError: An input is missing, there is none of that name, or the program takes none of these sizes.
        """
        from jax import numpy as jnp

        every = {**self._nothing(inputs), **inputs}
        if every.keys() != self.inputs.keys():
            raise InputError(
                "these are not the inputs of the program",
                expected=", ".join(self.inputs),
                found=", ".join(inputs) or "none",
            )
        given = {name: jnp.asarray(every[name], spec.dtype) for name, spec in self.inputs.items()}
        try:
            found: dict[str, Any] = self.exported.call(parameters, given)
        except ValueError as error:
            if not str(error).startswith(OF_SIZES):
                raise
            raise InputError(
                "the program takes no inputs of these sizes",
                expected="; ".join([_sizes(self.inputs), *self.limits]),
                found=_sizes(given),
            ) from error
        return found

    def _nothing(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """An empty past, where the program takes one and none is given."""
        from jax import numpy as jnp

        past = {name: spec for name, spec in self.inputs.items() if name.startswith(PAST)}
        if not inputs or past.keys() & inputs.keys():
            return {}
        rows = len(next(iter(inputs.values())))
        return {
            name: jnp.zeros((rows, spec.shape[1], 0, spec.shape[3]), spec.dtype)
            for name, spec in past.items()
        }


def _sizes(inputs: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} ({', '.join(map(str, value.shape))})" for name, value in inputs.items()
    )


@dataclass(frozen=True)
class JaxModel:
    """All programs of an artifact, which share their weights.

    Attributes:
        roles: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
    """

    roles: Mapping[str, JaxProgram]

    @property
    def parameters(self) -> dict[str, Any]:
        """The weights as nested dicts in the Flax layout."""
        return next(iter(self.roles.values())).parameters

    @property
    def inputs(self) -> dict[str, Any]:
        """Shape and dtype of each input of the model as a whole; open sizes are symbols."""
        if "model" in self.roles:
            return dict(self.roles["model"].inputs)
        decoder = self.roles["decoder"].inputs
        mask = decoder.get("encoder_attention_mask")
        return {
            **({} if mask is None else {"attention_mask": mask}),
            **self.roles["encoder"].inputs,
            "decoder_input_ids": decoder["input_ids"],
        }

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """The outputs by name, from the weights as they were loaded.

        Raises:
            InputError: An input is missing, or there is none of that name.
        """
        return self.apply(self.parameters, inputs)

    def apply(self, parameters: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """One pass of the model as a whole: a pure function of weights and inputs.

        Raises:
            InputError: An input is missing, or there is none of that name.
        """
        if "model" in self.roles:
            return self.roles["model"].apply(parameters, inputs)
        if inputs.keys() != self.inputs.keys():
            raise InputError(
                "these are not the inputs of the model",
                expected=", ".join(self.inputs),
                found=", ".join(inputs) or "none",
            )
        encoder, decoder = self.roles["encoder"], self.roles["decoder"]
        encoded = encoder.apply(parameters, {name: inputs[name] for name in encoder.inputs})
        given = {
            "input_ids": inputs["decoder_input_ids"],
            "encoder_hidden_states": encoded["last_hidden_state"],
            "encoder_attention_mask": inputs.get("attention_mask"),
        }
        return decoder.apply(parameters, {name: given[name] for name in decoder.inputs})


def load_jax(folder: str | Path) -> JaxModel:
    """The program of an artifact, or its programs.

    Args:
        folder: What ``equipoise export --to stablehlo`` wrote.

    Raises:
        InputError: There is none, or it is damaged.
    """
    place = Path(folder)
    files = {"model": place / PROGRAM}
    if not files["model"].is_file():
        files = {role: place / f"{role}.jax" for role in ROLES}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(
            "there is no JAX program",
            file=missing[0] if len(missing) < len(files) else place / PROGRAM,
            hint="make one: equipoise export MODEL OUT --to stablehlo",
        )
    programs = {role: _exported(path) for role, path in files.items()}
    stored = flax_msgpack.read(place / WEIGHTS).tensors
    weights = nested({name: tensor.read() for name, tensor in stored.items()})
    limits = tuple(one for one in read(place).get("notes", []) if one.startswith("sizes: "))
    return JaxModel({role: _program(one, weights, limits) for role, one in programs.items()})


def _exported(path: Path) -> Any:
    from jax import export

    try:
        return export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
        raise ContainerError("not a program of jax.export", file=path, found=error) from error


def _program(exported: Any, weights: dict[str, Any], limits: tuple[str, ...]) -> JaxProgram:
    from jax.tree_util import tree_unflatten

    args, _ = tree_unflatten(exported.in_tree, exported.in_avals)
    return JaxProgram(exported, weights, args[1], limits)


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
