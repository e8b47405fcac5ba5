"""Runs one job after another in a warm process."""
