"""TensorFlow SavedModel: a program with named signatures."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.base import Array, Plain

SIGNATURE = "serving_default"


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    """The program of a folder; it fixes its precision."""
    from equipoise.validators.backends import tensorflow as classes

    classes.pin(options)
    import tensorflow as tf

    with classes.place(options):
        return Session(tf.saved_model.load(folder), options)


class Session(Plain):
    """The serving signature of a SavedModel."""

    def __init__(self, program: Any, options: dict[str, Any]) -> None:
        self.program = program  # the signature does not keep its variables alive
        self.options = options
        self.signature = program.signatures[SIGNATURE]
        self.inputs = self.signature.structured_input_signature[1]
        self.accepts = frozenset(self.inputs)

    def about(self) -> dict[str, Any]:
        """Device, precision, threads and switches as TensorFlow reports them."""
        from equipoise.validators.backends import tensorflow as classes

        variables = self.signature.variables
        floating = [value.dtype.name for value in variables if value.dtype.is_floating]
        return {
            **classes.device_about(),
            "precision": floating[0] if floating else "float32",
            "implementation": "tf.saved_model",
        }

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """The outputs by their names."""
        import tensorflow as tf

        tensors = {
            name: tf.cast(tf.constant(value), self.inputs[name].dtype)
            for name, value in inputs.items()
        }
        return self.signature(**tensors)
