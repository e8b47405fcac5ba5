"""Measures one model of common size on a GPU: PyTorch at each precision, compiled, and its JAX program. Prints one JSON line.

    python benchmarks/gpu_speed.py bert-base|gpt2|vit-base [--device cuda] [--rounds 30]

The figures are median milliseconds of a forward pass over two samples after warm-up. Part of ``benchmarks/gpu.py``.
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

import jax_speed  # isort: skip - a script in the same folder, not a package

MODELS = {
    "bert-base": jax_speed._build_bert,
    "gpt2": jax_speed._build_gpt2,
    "vit-base": jax_speed._build_vit,
}


def main() -> None:
    """Measures one model and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(MODELS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    print(json.dumps(measure_milliseconds(given.name, given.device, given.rounds)))


def measure_milliseconds(name: str, device: str, rounds: int) -> dict[str, float]:
    """Returns the median milliseconds of a forward pass by runtime and precision."""
    import torch

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    model, arrays = MODELS[name]()
    model = model.eval()
    found = {"jax fp32": _measure_jax(model, arrays, device, rounds)}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        cast = model.to(device, dtype)
        tensors = {key: torch.from_numpy(value).to(device) for key, value in arrays.items()}
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
        kind = str(dtype).removeprefix("torch.")
        found[f"eager {kind}"] = _median_milliseconds(_forward_pass(cast, tensors, device), rounds)
    found["compiled bfloat16"] = _median_milliseconds(
        _forward_pass(torch.compile(cast), tensors, device), rounds
    )
    return found


def _forward_pass(model: Any, tensors: dict[str, Any], device: str) -> Callable[[], Any]:
    import torch

    def one() -> None:
        model(**tensors)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return one


def _measure_jax(model: Any, arrays: dict[str, Any], device: str, rounds: int) -> float:
    import jax
    import torch

    from equipoise.exporters import load_jax

    with tempfile.TemporaryDirectory() as folder:
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        jax_speed._export_program(model, tensors, Path(folder))
        program = load_jax(folder)
    place = jax.devices("gpu" if device.startswith("cuda") else device)[0]
    with jax.default_device(place):
        weights, given = jax.device_put((program.parameters, arrays), place)
        call = jax.jit(program.apply)
        return _median_milliseconds(lambda: jax.block_until_ready(call(weights, given)), rounds)


def _median_milliseconds(call: Callable[[], Any], rounds: int) -> float:
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 3)


if __name__ == "__main__":
    main()
