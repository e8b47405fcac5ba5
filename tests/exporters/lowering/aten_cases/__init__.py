"""Samples that PyTorch has not, or too few of: a file a family of operators."""
