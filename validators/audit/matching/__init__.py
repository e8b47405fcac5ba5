"""The ways in which a weight can be a tensor of the source, one a module."""
