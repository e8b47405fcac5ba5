"""Helpers that read and write Keras HDF5 files."""
