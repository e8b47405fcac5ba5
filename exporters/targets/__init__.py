"""Export targets: one file each, found by its name; see :mod:`equipoise.exporters.target`."""
