"""Pipeline tasks, one module each, named like the task; see :mod:`equipoise.validators.tasks.base`."""
