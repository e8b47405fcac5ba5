"""Sentence-transformers models as one graph."""
