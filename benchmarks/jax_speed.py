"""Compares the speed of JAX programs with PyTorch, eager and compiled: models of common sizes with random weights.

    python benchmarks/jax_speed.py [--rounds 15] [NAME ...]

Every round runs all three once, in turn, on the same inputs; the figure is the median. All use the same cores.
``first_call`` includes compilation, ``making`` is the time of the export.
Figures go to ``benchmarks/results/jax-speed.json``, with ratios to PyTorch eager.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters import build, load_jax
from equipoise.exporters.cache_names import cache_argument, cache_of
from equipoise.exporters.example_inputs import varying_axes
from equipoise.exporters.target import find_target
from equipoise.validators.evaluation import host

HERE = Path(__file__).parent
TOKENS = 128
BATCH_SIZE = 2
"""Batch size. With one sample, torch.export and torch.compile specialize the program to a batch of one."""


def main() -> None:
    """Measures the chosen models, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    rows = []
    for name in given.names or list(BENCHMARKS):
        rows.append({"model": name, **measure_model(name, given.rounds)})
        print(rows[-1], flush=True)
        today = date.today().isoformat()
        values = {"date": today, "machine": describe_setup(), "rounds": given.rounds, "rows": rows}
        (HERE / "results" / "jax-speed.json").write_text(json.dumps(values, indent=1) + "\n")


def describe_setup() -> dict[str, Any]:
    """Returns a description of the machine and the versions of torch, jax and jaxlib."""
    found = host.describe_host()
    versions = {name: version(name) for name in ("torch", "jax", "jaxlib")}
    return {**found, "versions": {**found["versions"], **versions}}


def measure_model(name: str, rounds: int) -> dict[str, Any]:
    """Returns the median seconds of a forward pass in each runtime, and their ratios to PyTorch eager."""
    import torch

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    contestants, export_seconds = BENCHMARKS[name]()
    first = {key: _time_call(one) for key, one in contestants.items()}
    found: dict[str, list[float]] = {key: [] for key in contestants}
    for _ in range(rounds):
        for key, one in contestants.items():
            found[key].append(_time_call(one))
    medians = {key: statistics.median(values) for key, values in found.items()}
    return {
        "seconds": medians,
        "ratio_to_eager": {key: medians[key] / medians["eager"] for key in ("compiled", "jax")},
        "first_call": first,
        "making": export_seconds,
    }


def _forward_passes(
    build: Callable[[], tuple[Any, dict[str, Any]]],
) -> tuple[dict[str, Callable[[], Any]], float]:
    """Returns a function for each runtime that runs a forward pass, and the seconds that the export took."""
    import jax
    import torch

    model, arrays = build()
    model = model.eval()
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        _export_program(model, tensors, Path(folder))
        export_seconds = time.perf_counter() - start
        program = load_jax(folder)
    weights = jax.device_put(program.parameters)
    call = jax.jit(program.apply)
    compiled = torch.compile(model)

    def in_jax() -> Any:
        return jax.block_until_ready(call(weights, arrays))

    contestants: dict[str, Callable[[], Any]] = {
        "eager": lambda: (
            model(**tensors, use_cache=False) if _has_cache(model) else model(**tensors)
        ),
        "compiled": lambda: (
            compiled(**tensors, use_cache=False) if _has_cache(model) else compiled(**tensors)
        ),
        "jax": in_jax,
    }
    return contestants, export_seconds


def _decoding_steps() -> tuple[dict[str, Callable[[], Any]], float]:
    """Returns a function for each runtime that generates one more token of GPT-2 with a KV cache, and the seconds of the export."""
    import jax
    import torch
    import transformers

    config = transformers.GPT2Config(attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.from_numpy(_random_tokens(config.vocab_size))
    inputs = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "position_ids": torch.arange(TOKENS).expand(BATCH_SIZE, -1),
    }
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        _export_with_cache(model, inputs, Path(folder))
        export_seconds = time.perf_counter() - start
        program = load_jax(folder)
    cache = cache_of(model(**inputs, use_cache=True))
    argument = cache_argument(model)
    step = {
        "input_ids": tokens[:, -1:],
        "attention_mask": torch.ones(BATCH_SIZE, TOKENS + 1, dtype=torch.int64),
        "position_ids": torch.full((BATCH_SIZE, 1), TOKENS),
    }
    past = {
        f"past_key_values.{layer}.{part}": getattr(one, f"{part}s").numpy()
        for layer, one in enumerate(cache.layers)
        for part in ("key", "value")
    }
    given = jax.device_put(past)
    plain = {name: value.numpy() for name, value in step.items()}
    weights = jax.device_put(program.parameters)
    call = jax.jit(program.apply)
    compiled = torch.compile(model)

    def with_cache(run: Any) -> Callable[[], Any]:
        def one() -> Any:
            outputs = run(**step, **{argument: cache}, use_cache=True)
            cache.crop(-1)
            return outputs

        return one

    contestants = {
        "eager": with_cache(model),
        "compiled": with_cache(compiled),
        "jax": lambda: jax.block_until_ready(call(weights, {**plain, **given})),
    }
    return contestants, export_seconds


def _export_with_cache(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    model.save_pretrained(folder / "model")
    np.savez(folder / "inputs.npz", **{name: value.numpy() for name, value in tensors.items()})
    axes = {name: {"0": "batch_size", "1": "sequence_length"} for name in tensors}
    build.build(**_request_fields(model, folder, axes), cached=True)


def _export_program(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    axes = {
        name: {str(axis): symbol for axis, symbol in one.items()}
        for name, one in varying_axes([{key: one.numpy() for key, one in tensors.items()}]).items()
    }
    build.apply_patches(model)
    request = build.BuildRequest(**_request_fields(model, folder, axes))
    source = build.exportable_model(request, model, tensors)
    find_target(request.target).make(request.way, source, Path(request.output))


def _request_fields(model: Any, folder: Path, axes: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Returns the fields of the request to export a model as a JAX program."""
    return {
        "target": "stablehlo",
        "way": "export",
        "folder": str(folder / "model"),
        "class_name": type(model).__name__,
        "inputs": str(folder / "inputs.npz"),
        "output": str(folder / find_target("stablehlo").program),
        "axes": axes,
    }


def _has_cache(model: Any) -> bool:
    return hasattr(model.config, "use_cache")


def _time_call(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _random_tokens(vocabulary: int) -> Any:
    return np.random.default_rng(0).integers(5, vocabulary, (BATCH_SIZE, TOKENS))


def _build_bert() -> Any:
    import transformers

    config = transformers.BertConfig(attn_implementation="eager")
    return transformers.BertModel(config), {"input_ids": _random_tokens(config.vocab_size)}


def _build_gpt2() -> Any:
    import transformers

    config = transformers.GPT2Config(attn_implementation="eager")
    return transformers.GPT2LMHeadModel(config), {"input_ids": _random_tokens(config.vocab_size)}


def _build_vit() -> Any:
    import transformers

    pixels = np.random.default_rng(0).standard_normal((BATCH_SIZE, 3, 224, 224)).astype(np.float32)
    config = transformers.ViTConfig(attn_implementation="eager")
    return transformers.ViTModel(config), {"pixel_values": pixels}


def _build_whisper() -> Any:
    import transformers

    config = transformers.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        attn_implementation="eager",
    )
    features = np.random.default_rng(0).standard_normal((BATCH_SIZE, 80, 3000)).astype(np.float32)
    inputs = {"input_features": features, "decoder_input_ids": _random_tokens(1000)[:, :16]}
    return transformers.WhisperModel(config), inputs


BENCHMARKS: dict[str, Callable[[], tuple[dict[str, Callable[[], Any]], float]]] = {
    "bert-base, 128 tokens": lambda: _forward_passes(_build_bert),
    "gpt2, 128 tokens, no cache": lambda: _forward_passes(_build_gpt2),
    "gpt2, one token after 128": _decoding_steps,
    "vit-base": lambda: _forward_passes(_build_vit),
    "whisper-tiny, 30 s and 16 tokens": lambda: _forward_passes(_build_whisper),
}


if __name__ == "__main__":
    main()
