"""Helpers of the container for Orbax checkpoints."""
