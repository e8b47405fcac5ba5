"""Helpers that read and write Flax msgpack files."""
