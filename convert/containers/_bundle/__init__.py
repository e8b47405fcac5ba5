"""Helpers that read TensorFlow checkpoints (tensor bundles)."""
