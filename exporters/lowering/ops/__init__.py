"""ATen operators in JAX, one module for each family; imported only when a graph is lowered, so they import JAX at the top.

Each function has the meaning and the arguments of the ATen operator of its name.
"""
