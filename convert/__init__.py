"""Checkpoints, with numpy only: no framework is ever imported to convert."""
