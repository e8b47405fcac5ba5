"""Runs a TensorFlow SavedModel: one signature, or those of encoder, decoder and decoder with past."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.convert.core.framework_types import TfFunction, TfModule
from equipoise.exporters.cache_names import PAST_PREFIX, ROLES
from equipoise.validators.backends import _graph_cache
from equipoise.validators.backends._tensorflow import describe_runtime, device_scope, pin_numerics
from equipoise.validators.backends.base import Array, Facts, Options

DEFAULT_SIGNATURE = "serving_default"
PAST_LENGTH_MULTIPLE = 16
"""Past lengths are rounded up to multiples of this, since XLA compiles a program for every length; see
:class:`equipoise.validators.backends._graph_cache.DecoderGraph`.
"""
_PAST_ARGUMENT = "past_key_values_"


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the program of a folder; it determines the precision."""
    pin_numerics(options)
    import tensorflow as tf

    with device_scope(options):
        return Session(tf.saved_model.load(folder))


class Session(_graph_cache.GraphSession):
    """A session of the signatures of a SavedModel."""

    def __init__(self, program: TfModule) -> None:
        self.program = program  # keeps the variables alive, which signatures do not
        signatures = program.signatures
        names_by_role = (
            {"model": DEFAULT_SIGNATURE}
            if DEFAULT_SIGNATURE in signatures
            else {role: role for role in ROLES}
        )
        self.signatures = {
            role: Signature(signatures[name]) for role, name in names_by_role.items()
        }
        self.model = _graph_cache.assemble_graphs(self.signatures, PAST_LENGTH_MULTIPLE)
        self.accepts, self.caches = self.model.accepts, self.model.caches

    def about(self) -> Facts:
        """Describes device, precision, threads and switches as TensorFlow reports them."""
        variables = [
            variable
            for signature in self.signatures.values()
            for variable in signature.function.variables
        ]
        floating = [value.dtype.name for value in variables if value.dtype.is_floating]
        return {
            **describe_runtime(),
            "precision": floating[0] if floating else "float32",
            "implementation": "tf.saved_model",
        }


class Signature:
    """A signature of a SavedModel: a function with named inputs and outputs."""

    def __init__(self, function: TfFunction) -> None:
        self.function = function
        specs = function.structured_input_signature[1]
        self._argument_names = {_input_name(name): name for name in specs}
        self.inputs = {
            name: _graph_cache.InputSpec(
                tuple(specs[argument].shape), specs[argument].dtype.as_numpy_dtype
            )
            for name, argument in self._argument_names.items()
        }

    def call(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        import tensorflow as tf

        tensors = {
            self._argument_names[name]: tf.cast(tf.constant(value), self.inputs[name].dtype)
            for name, value in values.items()
        }
        return {name: value.numpy() for name, value in self.function(**tensors).items()}


def _input_name(name: str) -> str:
    """Returns the name of an input. TensorFlow's arguments have underscores instead of the dots in ``past_key_values.0.key``.

    >>> _input_name("past_key_values_0_key"), _input_name("input_ids")
    ('past_key_values.0.key', 'input_ids')
    """
    if not name.startswith(_PAST_ARGUMENT):
        return name
    return PAST_PREFIX + name.removeprefix(_PAST_ARGUMENT).replace("_", ".")
