"""Backends that run a checkpoint with the classes of transformers, one module each."""
