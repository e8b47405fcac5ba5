"""Helpers of several containers."""
