"""Backends that run an exported program, one module each."""
