"""Metrics, verdicts and the diagnosis of a divergence; pure functions of arrays."""
