"""Builds model classes under many configs and records their modules, shapes and ties."""
