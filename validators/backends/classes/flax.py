"""Runs the Flax classes of transformers 4.57.6, the last release that has them."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from equipoise.convert.core.framework_types import FlaxModel, JaxArray, JaxDtype, JaxTree
from equipoise.validators.backends import _jax
from equipoise.validators.backends.base import (
    Array,
    BaseSession,
    CacheState,
    Facts,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
    module_record,
    name_outputs,
)
from equipoise.validators.backends.classes._flax_cache import CachedDecoder
from equipoise.validators.runtime.worker import flatten


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the model of a folder with ``flax_model.msgpack`` or safetensors in the Flax layout."""
    import transformers

    _jax.pin_numerics(options)
    patch_jnp_clip()
    cls = getattr(transformers, f"Flax{class_name}", None)
    if cls is None:
        raise LookupError(f"transformers has no class Flax{class_name}")
    dtype = _jax.jax_dtype(options.get("dtype") or "float32")
    if options.get("from_pt"):
        return Session(
            cls.from_pretrained(folder, from_pt=True, dtype=dtype, trust_remote_code=False),
            {},
            options,
        )
    model, params = _load_without_init(cls, folder, dtype)
    from flax.traverse_util import flatten_dict

    expected = {"/".join(key) for key in flatten_dict(model.params_shape_tree)}
    stored = _keys_in_file(cls, folder)
    info = {
        "missing_keys": sorted(expected - stored),
        "unexpected_keys": sorted(stored - expected),
        "mismatched_keys": _mismatched_keys(params, model.params_shape_tree),
    }
    if not info["missing_keys"]:
        model.params = params
    return Session(model, info, options)


def _load_without_init(cls: Any, folder: str, dtype: JaxDtype) -> tuple[FlaxModel, JaxTree]:
    """Loads a model and its parameters, without random initialization if the class supports that."""
    try:
        model, params = cls.from_pretrained(
            folder, _do_init=False, dtype=dtype, trust_remote_code=False
        )
    except ValueError as error:
        if "_do_init" not in str(error):
            raise
        model = cls.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
        return model, model.params
    model._is_initialized = True
    return model, params


def _keys_in_file(flax_class: Any, folder: str) -> set[str]:
    """Returns the names of the weights in the file: the loader drops unexpected ones silently."""
    from flax.traverse_util import flatten_dict

    index = os.path.join(folder, "flax_model.msgpack.index.json")
    if os.path.exists(index):
        with open(index) as file:
            return set(json.load(file)["weight_map"])
    for name in ("flax_model.msgpack", "model.safetensors"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return {"/".join(key) for key in flatten_dict(flax_class.load_flax_weights(path))}
    return set()


def _mismatched_keys(params: JaxTree, expected: JaxTree) -> list[str]:
    from flax.traverse_util import flatten_dict

    expected_leaves = flatten_dict(expected)
    return [
        "/".join(key)
        for key, value in flatten_dict(params).items()
        if key in expected_leaves and tuple(value.shape) != tuple(expected_leaves[key].shape)
    ]


def patch_jnp_clip() -> None:
    """Makes ``jnp.clip`` accept ``a_min`` and ``a_max``, which T5 of transformers 4.57.6 uses and newer JAX refuses."""
    import jax.numpy as jnp

    clip = jnp.clip
    if clip.__module__ == __name__:
        return

    def clip_with_old_names(arr: JaxArray, *args: Any, **kwargs: Any) -> JaxArray:
        renamed = {{"a_min": "min", "a_max": "max"}.get(k, k): v for k, v in kwargs.items()}
        return clip(arr, *args, **renamed)

    jnp.clip = clip_with_old_names


def _is_traced(value: Outputs) -> bool:
    """Checks whether a result has shapes and no values, because JAX follows the function that computes it."""
    import jax

    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


class Session(BaseSession):
    """A session of a Flax model of transformers."""

    def __init__(self, model: FlaxModel, info: dict[str, Any], options: Options) -> None:
        self.model = model
        self.info = info
        self.options = options
        self.accepts = frozenset(inspect.signature(type(model).__call__).parameters) - {"self"}
        # OPT's option has another name, and is off by default.
        self.call_options: dict[str, Any] = {"return_dict": True}
        if "train" in self.accepts:
            self.call_options["train"] = False
        self.decoder: CachedDecoder | None = None
        self.compiled = self._compile()
        self.caches = hasattr(model, "init_cache")

    def about(self) -> Facts:
        """Describes device, precision and switches as JAX reports them."""
        return {
            **_jax.describe_runtime(),
            "precision": str(
                self.model.dtype.dtype if hasattr(self.model.dtype, "dtype") else self.model.dtype
            ),
            "implementation": f"transformers.{type(self.model).__name__}",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs by name; compiled, unless the model's code depends on values of the inputs."""
        import jax

        tensors = {name: jax.numpy.asarray(value) for name, value in inputs.items()}
        if self.compiled is not None and not kwargs:
            try:
                # JAX computes asynchronously; the duration of a pass includes the computation.
                return jax.block_until_ready(self.compiled(self.model.params, tensors))
            except (jax.errors.JAXTypeError, TypeError):
                self.compiled = None
        return self._eager(tensors, kwargs)

    def _eager(self, tensors: dict[str, JaxArray], kwargs: Kwargs) -> Outputs:
        return self.model(**tensors, **self.call_options, **kwargs)

    def _compile(self) -> Any:
        import jax

        def call(params: JaxTree, inputs: JaxTree) -> Outputs:
            return dict(self.model(**inputs, params=params, **self.call_options))

        return jax.jit(call)

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass and keeps the cache, whose length is fixed, and the encoder's output."""
        if self.decoder is None:
            self.decoder = CachedDecoder(self.model)
        return self.decoder(inputs, kwargs, state, order)

    @contextmanager
    def record_modules(self) -> Iterator[list[ModuleRecord]]:
        """Records every call of a Flax module, with its path and the weights below it; nothing is compiled meanwhile."""
        from flax.linen import intercept_methods
        from flax.traverse_util import flatten_dict

        records: list[ModuleRecord] = []
        weight_names = ["/".join(key) for key in flatten_dict(self.model.params)]

        def interceptor(call: Any, args: Any, options: Any, context: Any) -> Any:
            output = call(*args, **options)
            # A cache of zeros is made by following the model's shapes, without values.
            if context.method_name == "__call__" and not _is_traced(output):
                path = "/".join(context.module.path)
                weights = [
                    name
                    for name in weight_names
                    if f"{name}/".startswith(f"{path}/" if path else "")
                ]
                arguments = {**flatten(list(args)), **flatten(dict(options))}
                result = name_outputs(flatten(output))
                kind = type(context.module).__name__
                records.append(module_record(path, kind, arguments, result, weights))
            return output

        compiled, self.compiled = self.compiled, None
        decoder, self.decoder = self.decoder, CachedDecoder(self.model, compiled=False)
        try:
            with intercept_methods(interceptor):
                yield records
        finally:
            self.compiled, self.decoder = compiled, decoder

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by name."""
        from flax.traverse_util import flatten_dict

        return {"/".join(key): list(v.shape) for key, v in flatten_dict(self.model.params).items()}
