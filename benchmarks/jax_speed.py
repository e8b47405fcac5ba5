"""A JAX program against PyTorch, eager and compiled, in one run: models of usual sizes with random weights.

    python benchmarks/jax_speed.py [--rounds 15] [NAME ...]

Every round runs all of them once, in turn, on the same inputs; the figure is the median. All have the same cores.
``first_call`` includes compiling, ``making`` is what the export took.
Figures go to ``benchmarks/results/jax-speed.json``, with ratios to PyTorch eager.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters import load_jax, making
from equipoise.exporters.base import find_target
from equipoise.exporters.inputs import varying_axes
from equipoise.validators import machine

HERE = Path(__file__).parent
TOKENS = 128
ROWS = 2
"""Of one sample PyTorch makes a program for one sample only."""


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    rows = []
    for name in given.names or list(MODELS):
        rows.append({"model": name, **measured(name, given.rounds)})
        print(rows[-1], flush=True)
        values = {"machine": machine.about(), "rounds": given.rounds, "rows": rows}
        (HERE / "results" / "jax-speed.json").write_text(json.dumps(values, indent=1) + "\n")


def measured(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of a pass each, and their ratios to PyTorch eager."""
    import jax
    import torch

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    model, arrays = MODELS[name]()
    model = model.eval()
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        _make(model, tensors, Path(folder))
        made = time.perf_counter() - start
        program = load_jax(folder)
    weights = jax.device_put(program.parameters)
    call = jax.jit(program.apply)
    compiled = torch.compile(model)

    def in_jax() -> Any:
        return jax.block_until_ready(call(weights, arrays))

    contestants: dict[str, Callable[[], Any]] = {
        "eager": lambda: model(**tensors, use_cache=False) if _caches(model) else model(**tensors),
        "compiled": lambda: (
            compiled(**tensors, use_cache=False) if _caches(model) else compiled(**tensors)
        ),
        "jax": in_jax,
    }
    first = {key: _seconds(one) for key, one in contestants.items()}
    found: dict[str, list[float]] = {key: [] for key in contestants}
    for _ in range(rounds):
        for key, one in contestants.items():
            found[key].append(_seconds(one))
    middle = {key: statistics.median(values) for key, values in found.items()}
    return {
        "seconds": middle,
        "ratio_to_eager": {key: middle[key] / middle["eager"] for key in ("compiled", "jax")},
        "first_call": first,
        "making": made,
    }


def _make(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    arrays = [{name: value.numpy() for name, value in tensors.items()}]
    axes = {
        name: {str(axis): symbol for axis, symbol in one.items()}
        for name, one in varying_axes(arrays).items()
    }
    making.prepared(model)
    source = making.source_of(model, tensors, axes, {}, None, {})
    target, _ = find_target("stablehlo")
    target.make("export", source, folder / target.program)


def _caches(model: Any) -> bool:
    return hasattr(model.config, "use_cache")


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _tokens(vocabulary: int) -> Any:
    return np.random.default_rng(0).integers(5, vocabulary, (ROWS, TOKENS))


def _bert() -> Any:
    import transformers

    config = transformers.BertConfig(attn_implementation="eager")
    return transformers.BertModel(config), {"input_ids": _tokens(config.vocab_size)}


def _gpt2() -> Any:
    import transformers

    config = transformers.GPT2Config(attn_implementation="eager")
    return transformers.GPT2LMHeadModel(config), {"input_ids": _tokens(config.vocab_size)}


def _vit() -> Any:
    import transformers

    pixels = np.random.default_rng(0).standard_normal((ROWS, 3, 224, 224)).astype(np.float32)
    config = transformers.ViTConfig(attn_implementation="eager")
    return transformers.ViTModel(config), {"pixel_values": pixels}


def _whisper() -> Any:
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
    features = np.random.default_rng(0).standard_normal((ROWS, 80, 3000)).astype(np.float32)
    inputs = {"input_features": features, "decoder_input_ids": _tokens(1000)[:, :16]}
    return transformers.WhisperModel(config), inputs


MODELS: dict[str, Callable[[], Any]] = {
    "bert-base, 128 tokens": _bert,
    "gpt2, 128 tokens, no cache": _gpt2,
    "vit-base": _vit,
    "whisper-tiny, 30 s and 16 tokens": _whisper,
}


if __name__ == "__main__":
    main()
