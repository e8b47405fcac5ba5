"""Graphs of ``torch.export`` as JAX functions: one small function an ATen operator, in ``ops/``."""
