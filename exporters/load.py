"""Loads what the target ``stablehlo`` writes: as a function of JAX, or as a module of Flax.

Neither PyTorch nor transformers is needed: only JAX, and Flax for :func:`load_flax`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.containers import flax_msgpack
from equipoise.convert.core.errors import ContainerError, InputError
from equipoise.convert.core.framework_types import JaxArray, JaxExported, JaxTree, NnxModule
from equipoise.convert.core.tensor import TensorRef
from equipoise.exporters.artifact import read_manifest
from equipoise.exporters.artifact_files import JAX_PROGRAM, JAX_WEIGHTS, jax_program_files
from equipoise.exporters.cache_names import PAST_PREFIX
from equipoise.exporters.weight_layout import nest_paths

SIZE_ERROR_PREFIXES = (
    "Input shapes do not match",
    "Rank mismatch",
    "Shape mismatch",
    "Error refining shapes",
)
"""Beginnings of JAX's messages about wrong sizes of inputs (jax 0.10)."""


@dataclass(frozen=True)
class JaxProgram:
    """A program and its weights.

    Attributes:
        exported: The program of ``jax.export``; its arguments are the tree of weights and a dict of inputs.
        parameters: The weights as nested dicts in the Flax layout.
        inputs: Shape and dtype of each input by name; dynamic sizes are symbols.
        limits: Notes of ``artifact.json`` about the sizes that the program accepts.
    """

    exported: JaxExported
    parameters: dict[str, JaxTree]
    inputs: Mapping[str, JaxArray]
    limits: tuple[str, ...] = ()

    def __call__(self, **inputs: JaxArray) -> dict[str, JaxArray]:
        """Returns the outputs by name, computed with the loaded weights.

        Raises:
            InputError: An input is missing or unknown.
        """
        return self.apply(self.parameters, inputs)

    def apply(self, parameters: JaxTree, inputs: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
        """Returns the outputs for the caller's weights: a pure function for ``jax.jit`` and ``jax.grad``.

        If no tensor of a past is given, the past is empty.

        Raises:
            InputError: An input is missing or unknown, or the program does not accept the sizes.
        """
        from jax import numpy as jnp

        every = {**self._empty_past(inputs), **inputs}
        if every.keys() != self.inputs.keys():
            raise InputError(
                "these are not the inputs of the program",
                expected=", ".join(self.inputs),
                found=", ".join(inputs) or "none",
            )
        given = {name: jnp.asarray(every[name], spec.dtype) for name, spec in self.inputs.items()}
        try:
            found: dict[str, JaxArray] = self.exported.call(parameters, given)
        except ValueError as error:
            if not str(error).startswith(SIZE_ERROR_PREFIXES):
                raise
            raise InputError(
                "the program takes no inputs of these sizes",
                expected="; ".join([_format_shapes(self.inputs), *self.limits]),
                found=_format_shapes(given),
            ) from error
        return found

    def _empty_past(self, inputs: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
        """Returns an empty past if the program takes one and none is given."""
        from jax import numpy as jnp

        past = {name: spec for name, spec in self.inputs.items() if name.startswith(PAST_PREFIX)}
        if not inputs or past.keys() & inputs.keys():
            return {}
        rows = len(next(iter(inputs.values())))
        return {
            name: jnp.zeros((rows, spec.shape[1], 0, spec.shape[3]), spec.dtype)
            for name, spec in past.items()
        }


def _format_shapes(inputs: Mapping[str, JaxArray]) -> str:
    return ", ".join(
        f"{name} ({', '.join(map(str, value.shape))})" for name, value in inputs.items()
    )


@dataclass(frozen=True)
class JaxModel:
    """All programs of an artifact, which share their weights.

    Attributes:
        roles: The programs by role: ``model``, or ``encoder``, ``decoder`` and ``decoder_with_past``.
    """

    roles: Mapping[str, JaxProgram]

    @property
    def parameters(self) -> dict[str, JaxTree]:
        """The weights as nested dicts in the Flax layout."""
        return next(iter(self.roles.values())).parameters

    @property
    def inputs(self) -> dict[str, JaxArray]:
        """Shape and dtype of each input of the whole model; dynamic sizes are symbols."""
        if "model" in self.roles:
            return dict(self.roles["model"].inputs)
        decoder = self.roles["decoder"].inputs
        mask = decoder.get("encoder_attention_mask")
        return {
            **({} if mask is None else {"attention_mask": mask}),
            **self.roles["encoder"].inputs,
            "decoder_input_ids": decoder["input_ids"],
        }

    def __call__(self, **inputs: JaxArray) -> dict[str, JaxArray]:
        """Returns the outputs by name, computed with the loaded weights.

        Raises:
            InputError: An input is missing or unknown.
        """
        return self.apply(self.parameters, inputs)

    def apply(self, parameters: JaxTree, inputs: Mapping[str, JaxArray]) -> dict[str, JaxArray]:
        """Runs one forward pass of the whole model: a pure function of weights and inputs.

        Raises:
            InputError: An input is missing or unknown.
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


def load_jax(folder: str | Path, weights: str | Path | None = None) -> JaxModel:
    """Loads the programs of an artifact.

    Args:
        folder: A folder that ``equipoise export --to stablehlo`` wrote.
        weights: A checkpoint in the Flax layout whose weights are taken instead, e.g. one of Orbax that was saved in a training.

    Raises:
        InputError: The folder holds no program, or the checkpoint has other weights.
        ContainerError: A program is damaged.
    """
    place = Path(folder)
    files = jax_program_files(place)
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(
            "there is no JAX program",
            file=missing[0] if len(missing) < len(files) else place / JAX_PROGRAM,
            hint="make one: equipoise export MODEL OUT --to stablehlo",
        )
    programs = {role: _deserialize(path) for role, path in files.items()}
    stored = flax_msgpack.read(place / JAX_WEIGHTS).tensors
    if weights is not None:
        stored = _weights_instead(Path(weights), stored)
    tree = nest_paths({name: tensor.read() for name, tensor in stored.items()})
    limits = tuple(
        one for one in read_manifest(place).get("notes", []) if one.startswith("sizes: ")
    )
    return JaxModel({role: _jax_program(one, tree, limits) for role, one in programs.items()})


def _weights_instead(place: Path, stored: Mapping[str, TensorRef]) -> Mapping[str, TensorRef]:
    """Returns the weights of a checkpoint if they have the names, shapes and dtypes of those of an artifact.

    Raises:
        InputError: They have not.
    """
    from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint

    found = open_checkpoint(place, layout="flax").in_layout("flax")
    for name in [*stored, *(found.keys() - stored.keys())]:
        expected, other = (
            f"{side[name].dtype.name} {list(side[name].shape)}"
            if name in side
            else "no such tensor"
            for side in (stored, found)
        )
        if expected != other:
            raise InputError(
                "the checkpoint has other weights than the program",
                file=place,
                tensor=name,
                expected=expected,
                found=other,
                hint="give a checkpoint of the same model, in the dtype of the program",
            )
    return {name: found[name] for name in stored}


def _deserialize(path: Path) -> JaxExported:
    from jax import export

    try:
        return export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
        raise ContainerError("not a program of jax.export", file=path, found=error) from error


def _jax_program(
    exported: JaxExported, weights: dict[str, JaxTree], limits: tuple[str, ...]
) -> JaxProgram:
    from jax.tree_util import tree_unflatten

    args, _ = tree_unflatten(exported.in_tree, exported.in_avals)
    return JaxProgram(exported, weights, args[1], limits)


def load_flax(folder: str | Path, weights: str | Path | None = None) -> NnxModule:
    """Loads an artifact as a ``flax.nnx.Module``.

    Its parameters have the names of the Flax layout (``model.bert.encoder.layer["0"].output.dense.kernel``) and can be
    trained, sharded and saved like those of any module. Calling it with inputs by name returns a dict of outputs.

    Args:
        folder: A folder that ``equipoise export --to stablehlo`` wrote.
        weights: A checkpoint in the Flax layout whose weights are taken instead, e.g. the module's state as Orbax saved it.

    Raises:
        InputError: The folder holds no program, or the checkpoint has other weights.
        ContainerError: A program is damaged.
    """
    from flax import nnx
    from jax import numpy as jnp

    program = load_jax(folder, weights)

    class WeightTree(nnx.Module):  # type: ignore[misc]
        """One level of the tree of weights."""

        def __init__(self, tree: Mapping[str, JaxTree], kind: NnxModule) -> None:
            for name, value in tree.items():
                below = nnx.BatchStat if name == "batch_stats" else kind
                is_subtree = isinstance(value, Mapping)
                child = WeightTree(value, below) if is_subtree else kind(jnp.asarray(value))
                setattr(self, name, child)

        def __getitem__(self, name: str) -> JaxTree:
            return getattr(self, name)

    class Model(WeightTree):
        """The weights together with the program that uses them."""

        def __call__(self, **inputs: JaxArray) -> dict[str, JaxArray]:
            return program.apply(nnx.to_pure_dict(nnx.state(self)), inputs)

    return Model(program.parameters, nnx.Param)
