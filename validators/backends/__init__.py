"""Backends: each module in ``classes/`` and ``programs/`` runs models in a worker process.

Modules in this folder import nothing of Equipoise but each other, :mod:`equipoise.validators.runtime.worker` and
constants of ``exporters`` and ``convert``: they also run in environments where Equipoise is not installed.
"""
