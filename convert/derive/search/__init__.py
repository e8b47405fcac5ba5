"""Searches expressions over config fields that reproduce observed sizes, counts and conditions."""
