"""Writes an architecture file from the expressions that were found, and checks it against the models."""
