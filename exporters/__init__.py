"""Programs out of models, and the loaders of those that other libraries have none for."""

from equipoise.exporters.load import JaxModel, JaxProgram, load_flax, load_jax

__all__ = ["JaxModel", "JaxProgram", "load_flax", "load_jax"]
