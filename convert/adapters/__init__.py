"""Adapters of PEFT, merged into the weights that they change."""
