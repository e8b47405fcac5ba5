"""Runs thousands of conversions, validations and exports, on one machine or many; a job that is done is never done again."""
