"""Architectures as data: one TOML a model type."""
