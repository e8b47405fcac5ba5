"""Dynamic shapes: the sizes that a program takes, from PyTorch's symbols to JAX's constraints."""
