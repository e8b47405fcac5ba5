"""Functions that tests call inside the oracle's worker process, on the models that are loaded there."""

from __future__ import annotations

from typing import Any


def save(model: str, folder: str, **options: Any) -> None:
    """Saves a loaded model with its framework's own ``save_pretrained``; ``bf16`` casts a Flax model first."""
    from equipoise.validators.runtime.worker import SESSIONS

    loaded = SESSIONS[model].model
    if options.pop("bf16", False):
        loaded.params = loaded.to_bf16(loaded.params)
    loaded.save_pretrained(folder, **options)


def build_variables_by_a_call(class_name: str) -> None:
    """Patches a TF class to build its variables with a first call, before weights are loaded.

    Some classes create variables only when called, which is too late for the loader of 4.57.6.
    """
    import transformers

    cls = getattr(transformers, class_name)
    build = cls.build_in_name_scope
    if build.__module__ == __name__:
        return

    def build_and_call(self: Any) -> None:
        build(self)
        self(self.dummy_inputs)

    cls.build_in_name_scope = build_and_call
