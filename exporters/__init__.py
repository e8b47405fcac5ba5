"""Programs out of models."""
