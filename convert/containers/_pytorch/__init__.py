"""Helpers that read and write PyTorch checkpoints."""
