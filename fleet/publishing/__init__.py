"""Publishes what a fleet converted to the Hub."""
