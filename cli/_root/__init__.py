"""Equipoise moves model weights between PyTorch, TensorFlow and Flax, and proves that nothing changed.

This folder is the package ``equipoise`` itself; its parts ``equipoise.convert``, ``equipoise.exporters``,
``equipoise.validators`` and ``equipoise.cli`` are the folders of the repository. Where ``equipoise.fixtures`` is
importable, as in the repository's own environment, ``equipoise`` is a namespace and this file is not read.
"""


def __getattr__(name: str) -> str:
    """Reads ``__version__`` when it is asked for, since importing the reader takes a tenth of ``equipoise --help``."""
    if name == "__version__":
        from importlib.metadata import version

        return version("equipoise")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
