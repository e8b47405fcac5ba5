"""Reads only what belongs to a model's folder, and replaces only what Equipoise made."""
