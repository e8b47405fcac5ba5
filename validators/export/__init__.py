"""Exports a model with the strategies of a target until one passes validation."""
