"""Helpers of the TensorFlow backends: numerical switches and runtime description."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.base import Facts, Options


def pin_numerics(options: Options) -> None:
    """Sets threads, determinism and TF32. A process can set its thread counts only once."""
    import tensorflow as tf

    if options.get("threads"):
        try:
            tf.config.threading.set_intra_op_parallelism_threads(int(options["threads"]))
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:  # TensorFlow is initialized already; about() reports its threads
            pass
    tf.config.experimental.enable_tensor_float_32_execution(bool(options.get("tf32")))
    if (options.get("device") or "cpu") == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow finds no GPU")
    else:
        tf.random.set_seed(0)  # with op determinism, dropout needs a seed even while saving
        tf.config.experimental.enable_op_determinism()


def device_scope(options: Options) -> Any:
    """Returns a context in which TensorFlow uses the device of the options."""
    import tensorflow as tf

    device = str(options.get("device") or "cpu")
    return tf.device("/CPU:0" if device == "cpu" else f"/GPU:{(device + ':0').split(':')[1]}")


def describe_runtime() -> Facts:
    """Returns the device and the switches of :func:`pin_numerics` as TensorFlow reports them."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return {
        "device": "cuda" if gpus else "cpu",
        "hardware": gpus[0].name if gpus else "cpu",
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "deterministic": True,
    }
