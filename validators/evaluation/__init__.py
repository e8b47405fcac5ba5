"""Runs cases on the reference and on backends and judges the outputs."""
