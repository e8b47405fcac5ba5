"""Naming dialects: how one framework spells a model, one module each."""
