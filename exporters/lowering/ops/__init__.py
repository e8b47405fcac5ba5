"""ATen's operators in JAX, by family. A file is imported only where a graph is lowered, so it imports JAX itself.

A function means what the operator of its name means in PyTorch: its arguments are those of ATen's schema.
"""
