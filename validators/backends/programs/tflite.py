"""Runs TensorFlow Lite: a flat buffer with one signature and fixed input shapes."""

from __future__ import annotations

import os

import numpy as np

from equipoise.validators.backends.base import Array, BaseSession, Facts, Kwargs, Options, Outputs


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the program of a file; it determines the precision.

    Raises:
        ValueError: The device is not the CPU.
    """
    if (options.get("device") or "cpu") != "cpu":
        raise ValueError("the interpreter of TensorFlow Lite runs on the CPU only")
    return Session(folder, options)


class Session(BaseSession):
    """A session of a ``tf.lite.Interpreter``."""

    def __init__(self, file: str, options: Options) -> None:
        import tensorflow as tf

        self.threads = int(options.get("threads") or 0) or len(os.sched_getaffinity(0))
        self.program = tf.lite.Interpreter(model_path=file, num_threads=self.threads)
        self.call = self.program.get_signature_runner()
        self.inputs = self.call.get_input_details()
        self.accepts = frozenset(self.inputs)

    def about(self) -> Facts:
        """Describes threads and precision: the smallest dtype in which weights are stored."""
        dtypes = {np.dtype(detail["dtype"]).name for detail in self.program.get_tensor_details()}
        compressed = [name for name in ("int8", "float16") if name in dtypes]
        return {
            "device": "cpu",
            "hardware": "cpu",
            "threads": self.threads,
            "tf32": False,
            "deterministic": True,
            "precision": compressed[0] if compressed else "float32",
            "implementation": "tf.lite.Interpreter",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name.

        Raises:
            ValueError: An input has another shape than the program was exported for.
        """
        for name, value in inputs.items():
            # The interpreter would resize the input, and compute with constants of the old shape.
            shape = tuple(self.inputs[name]["shape"].tolist())
            if value.shape != shape:
                raise ValueError(
                    f"{name} has shape {value.shape}, the program was exported for {shape}"
                )
        arguments = {
            name: np.asarray(value, self.inputs[name]["dtype"]) for name, value in inputs.items()
        }
        return self.call(**arguments)
