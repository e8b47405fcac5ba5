"""Runs the TensorFlow classes of transformers 4.57.6, the last release that has them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.convert.core.framework_types import TfModel, TfTensor
from equipoise.validators.backends._tensorflow import describe_runtime, device_scope, pin_numerics
from equipoise.validators.backends.base import (
    Array,
    BaseSession,
    CacheState,
    Facts,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
    module_record,
    name_outputs,
)
from equipoise.validators.runtime.worker import flatten


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the model of a folder with ``tf_model.h5`` or safetensors in the TensorFlow layout."""
    import transformers

    if options.get("dtype") not in (None, "float32"):
        raise LookupError(f"the TF classes compute in float32, not in {options['dtype']}")
    pin_numerics(options)
    cls = getattr(transformers, f"TF{class_name}", None)
    if cls is None:
        raise LookupError(f"transformers has no class TF{class_name}")
    if package := missing_package(cls):
        raise LookupError(
            f"TF{class_name} of transformers needs {package}, which this environment lacks: install it there, "
            "or make the environment again with `equipoise env create oracle`"
        )
    loading_options = {"from_pt": True} if options.get("from_pt") else {}
    with device_scope(options):
        model, info = cls.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False, **loading_options
        )
    # The HDF5 loader also reports layers as missing that have no weights (dropout_37).
    weightless = {layer.name for layer in model.layers if not layer.weights}
    info["missing_keys"] = [name for name in info["missing_keys"] if name not in weightless]
    return Session(model, info, options)


def missing_package(cls: type) -> str:
    """Returns the package without which the module of a class was imported, but cannot compute; empty if there is none.

    transformers imports TensorFlow Probability only where it is installed, and fails with a ``NameError`` in the forward pass.
    """
    names = vars(sys.modules[cls.__module__])
    is_needed = "is_tensorflow_probability_available" in names
    return "tensorflow-probability" if is_needed and "tfp" not in names else ""


class Session(BaseSession):
    """A session of a Keras model of transformers."""

    def __init__(self, model: TfModel, info: dict[str, Any], options: Options) -> None:
        self.model = model
        self.info = info
        self.options = options
        self.accepts = frozenset(inspect.signature(model.call).parameters)
        self.caches = "past_key_values" in self.accepts and bool(
            getattr(model.config, "use_cache", False)
        )

    def about(self) -> Facts:
        """Describes device, precision, threads and switches as TensorFlow reports them."""
        return {
            **describe_runtime(),
            "precision": "float32",
            "implementation": f"transformers.{type(self.model).__name__}",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name."""
        import tensorflow as tf

        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        return self._forward(tensors, kwargs)

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass and keeps the cache and the encoder's output."""
        import tensorflow as tf

        tensors: dict[str, TfTensor] = {name: tf.constant(value) for name, value in inputs.items()}
        if state is not None:
            tensors = {**(state if order is None else _reorder_cache(state, order)), **tensors}
        outputs = self._forward(tensors, {**kwargs, "use_cache": True})
        new_state = {"past_key_values": outputs.past_key_values}
        encoded = outputs.get("encoder_last_hidden_state")
        if encoded is None and "encoder_outputs" in tensors:
            encoded = tensors["encoder_outputs"][0]
        if encoded is not None:
            new_state["encoder_outputs"] = (encoded,)
            if "attention_mask" in tensors:
                new_state["attention_mask"] = tensors["attention_mask"]
        return outputs, new_state

    @contextmanager
    def record_modules(self) -> Iterator[list[ModuleRecord]]:
        """Records every call of a Keras layer, with the names of the layers around it and the weights below it.

        A layer that applies its own activation (``Dense(activation="tanh")``) is recorded before it: that is what the
        module of PyTorch with the same weights returns.
        """
        from tf_keras.layers import Layer

        records: list[ModuleRecord] = []
        stack: list[str] = []
        original = Layer.__call__

        def call_and_record(layer: Any, *args: Any, **options: Any) -> Outputs:
            stack.append(layer.name)
            path = "/".join(stack)
            try:
                with _watch_activation(layer) as activated:
                    output = original(layer, *args, **options)
            finally:
                stack.pop()
            arguments = {**flatten(list(args)), **flatten(dict(options))}
            weights = [weight.name for weight in layer.weights]
            result = name_outputs(flatten(_before_activation(output, activated)))
            records.append(module_record(path, type(layer).__name__, arguments, result, weights))
            return output

        Layer.__call__ = call_and_record
        try:
            yield records
        finally:
            Layer.__call__ = original

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by name."""
        return {weight.name: list(weight.shape) for weight in self.model.weights}

    def close(self) -> None:
        """Clears Keras' global state."""
        from tf_keras import backend

        backend.clear_session()

    def _forward(self, tensors: dict[str, TfTensor], kwargs: Kwargs) -> Outputs:
        # Keras requires the first argument, even if a cache replaces it.
        arguments = {next(iter(inspect.signature(self.model.call).parameters)): None, **tensors}
        with device_scope(self.options):
            return self.model(**arguments, **kwargs, return_dict=True, training=False)


@contextmanager
def _watch_activation(layer: Any) -> Iterator[list[tuple[TfTensor, TfTensor]]]:
    """Yields a list that gets argument and result of every call of a layer's own activation."""
    calls: list[tuple[TfTensor, TfTensor]] = []
    activation = vars(layer).get("activation")
    if activation is None:
        yield calls
        return

    def call_and_record(value: TfTensor, *args: Any, **options: Any) -> TfTensor:
        calls.append((value, activation(value, *args, **options)))
        return calls[-1][1]

    # Past Keras' __setattr__, which would track the function as a part of the layer.
    vars(layer)["activation"] = call_and_record
    try:
        yield calls
    finally:
        vars(layer)["activation"] = activation


def _before_activation(output: Outputs, calls: list[tuple[TfTensor, TfTensor]]) -> Outputs:
    """Returns what a layer had before its activation, if the activation was its last operation."""
    return calls[-1][0] if calls and calls[-1][1] is output else output


def _reorder_cache(state: dict[str, TfTensor], order: list[int]) -> dict[str, TfTensor]:
    """Selects rows of a cache; GPT-2 stacks keys and values in front of the batch axis."""
    import tensorflow as tf

    def rows(tensor: TfTensor) -> TfTensor:
        return tf.gather(tensor, order, axis=1 if len(tensor.shape) == 5 else 0)

    return {
        name: tf.nest.map_structure(rows, value) if value is not None else None
        for name, value in state.items()
    }
