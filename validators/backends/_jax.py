"""Helpers of the JAX backends: numerical switches and runtime description."""

from __future__ import annotations

from typing import Any

from equipoise.validators.backends.base import Facts, Options


def pin_numerics(options: Options) -> None:
    """Sets the precision of matrix products, the device, and float64 if the options ask for it."""
    import jax

    device = str(options.get("device") or "cpu")
    platform = "cpu" if device == "cpu" else "gpu"
    jax.config.update(
        "jax_default_matmul_precision", "default" if options.get("tf32") else "highest"
    )
    jax.config.update("jax_enable_x64", options.get("dtype") == "float64")
    devices = jax.devices(platform)
    index = int((device + ":0").split(":")[1])
    jax.config.update("jax_default_device", devices[index])


def jax_dtype(name: str) -> Any:
    """Returns JAX's dtype of a name, such as ``bfloat16``."""
    import jax.numpy as jnp

    return jnp.dtype(name)


def describe_runtime() -> Facts:
    """Returns the device and the switches of :func:`pin_numerics` as JAX reports them."""
    import jax

    device = jax.config.jax_default_device or jax.devices()[0]
    return {
        "device": "cuda" if device.platform == "gpu" else device.platform,
        "hardware": device.device_kind,
        "tf32": jax.config.jax_default_matmul_precision != "highest",
        "deterministic": True,
    }
