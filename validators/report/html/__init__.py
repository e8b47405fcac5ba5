"""The HTML report, one module for each part of the page."""
