"""What runs models, one file each, found by the file's name; loaded in a worker process.

Nothing here imports anything of Equipoise but its neighbours and :mod:`equipoise.validators.runtime.worker`: the
files are used where Equipoise is not installed.
"""
