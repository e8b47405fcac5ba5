"""Plants faults in weights: in those that no sample touches, and in those that are nearly right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.evaluation.further_cases import all_cases
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task, load_samples
from faults.planting.onnx_graph import Array, NoSiteError, Planted, pick
from faults.planting.weight_files import Arrays, read_weights, write_weights

Random = np.random.Generator

WORDS = re.compile(r"word_embed|embed_tokens|wte|shared\.|token_embed|word_embeddings")
POSITIONS = re.compile(r"position_embed|embed_positions|wpe")
TOKEN_TYPES = re.compile(r"token_type_embed")
HEADS = re.compile(r"classifier|lm_head|qa_outputs|score|logits|head")
MIN_ROWS = 4
PERTURBATION = 0.01


def zero_rows(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Sets the rows of words that no sample uses to zero."""
    return change_unused_rows(
        artifact, random, backend, fixture, lambda rows: np.zeros_like(rows), "are zero"
    )


def swap_rows(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Swaps two rows of words that no sample uses."""

    def swap(rows: Array) -> Array:
        rows[[0, 1]] = rows[[1, 0]]
        return rows

    return change_unused_rows(artifact, random, backend, fixture, swap, "are swapped, two of them")


def break_row(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Sets a number of an unused row to NaN."""

    def break_one(rows: Array) -> Array:
        rows[0, 0] = np.nan
        return rows

    return change_unused_rows(artifact, random, backend, fixture, break_one, "hold a NaN")


def zero_last_positions(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Sets the last rows of a table of positions to zero."""

    def zero(value: Array, _: Random) -> Array:
        value[-MIN_ROWS:] = 0
        return value

    return change_weight(artifact, random, backend, POSITIONS, zero, "last positions are zero", 2)


def change_token_type(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Sets the second token type to the first."""

    def copy(value: Array, _: Random) -> Array:
        value[1] = value[0]
        return value

    return change_weight(artifact, random, backend, TOKEN_TYPES, copy, "type 1 is type 0", 2)


def round_layer(artifact: Path, random: Random, backend: str, fixture: Path, dtype: str) -> Planted:
    """Rounds one weight to another dtype."""
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16

    def round_all(value: Array, _: Random) -> Array:
        return value.astype(kind).astype(np.float32)

    return change_weight(artifact, random, backend, None, round_all, f"rounded to {dtype}", 2)


def shift_head_bias(
    artifact: Path, random: Random, backend: str, fixture: Path, offset: float
) -> Planted:
    """Adds to the first element of a bias of the head."""

    def shift(value: Array, _: Random) -> Array:
        value[0] += np.float32(offset)
        return value

    return change_weight(
        artifact, random, backend, HEADS, shift, f"first element is off by {offset}", 1, ".bias"
    )


def perturb_element(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Changes one number of a weight by 1 % of the largest."""

    def perturb(value: Array, generator: Random) -> Array:
        index = int(generator.integers(value.size))
        value.reshape(-1)[index] += np.float32(PERTURBATION * np.abs(value).max())
        return value

    return change_weight(artifact, random, backend, None, perturb, "one number is off by 1 %", 2)


def transpose_weight(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Transposes a square weight."""

    def transpose(value: Array, _: Random) -> Array:
        if value.shape[0] != value.shape[1]:
            raise NoSiteError
        return np.ascontiguousarray(value.T)

    return change_weight(artifact, random, backend, None, transpose, "transposed", 2)


def swap_heads(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Swaps the first two quarters of a query's or key's features."""

    def swap(value: Array, _: Random) -> Array:
        if value.shape[0] != value.shape[1] or value.shape[1] % MIN_ROWS:
            raise NoSiteError
        quarters = np.split(value, MIN_ROWS)
        return np.concatenate([quarters[1], quarters[0], *quarters[2:]])

    pattern = re.compile(r"query|q_proj|\.k_proj|key|q_lin|k_lin")
    return change_weight(artifact, random, backend, pattern, swap, "two heads are swapped", 2)


def scale_weight(
    artifact: Path, random: Random, backend: str, fixture: Path, factor: float
) -> Planted:
    """Multiplies a weight."""

    def scale(value: Array, _: Random) -> Array:
        return (value * np.float32(factor)).astype(np.float32)

    return change_weight(artifact, random, backend, None, scale, f"it is {factor} times", 2)


def zero_bias(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Sets a bias to zero."""
    return change_weight(
        artifact, random, backend, None, lambda value, _: np.zeros_like(value), "zero", 1, ".bias"
    )


def exchange_layers(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Swaps a weight with that of the same name in the next layer."""
    arrays = read_weights(artifact, backend)
    pairs = [
        (name, other)
        for name in arrays
        if (other := re.sub(r"\.0\.", ".1.", name, count=1)) != name and other in arrays
        and arrays[other].shape == arrays[name].shape
        and not np.array_equal(arrays[other], arrays[name])
    ]  # fmt: skip
    name, other = pick(random, pairs)
    write_weights(artifact, backend, {name: arrays[other], other: arrays[name]})
    return Planted(f"{name} and {other} are swapped", module_of_weight(name), name)


def change_weight(
    artifact: Path,
    random: Random,
    backend: str,
    pattern: re.Pattern[str] | None,
    change: Callable[[Array, Random], Array],
    what: str,
    axes: int,
    leaf: str = "",
) -> Planted:
    """Changes a random weight of this many axes whose name matches.

    Raises:
        NoSiteError: There is none, or it stays as it is.
    """
    arrays = read_weights(artifact, backend)
    names = [
        name
        for name, value in arrays.items()
        if value.ndim == axes
        and min(value.shape) > 1
        and (not pattern or pattern.search(name))
        and name.endswith(leaf)
        and (pattern or not (WORDS.search(name) or POSITIONS.search(name)))
    ]
    name = pick(random, names)
    changed = change(arrays[name].copy(), random)
    if np.allclose(changed, arrays[name], rtol=0, atol=1e-7 * np.abs(arrays[name]).max()):
        raise NoSiteError
    write_weights(artifact, backend, {name: changed})
    return Planted(f"{name}: {what}", module_of_weight(name), name)


def change_unused_rows(
    artifact: Path,
    random: Random,
    backend: str,
    fixture: Path,
    change: Callable[[Array], Array],
    what: str,
) -> Planted:
    """Changes rows of a table of words that no sample uses.

    Raises:
        NoSiteError: There is no table, or every row is used.
    """
    arrays: Arrays = read_weights(artifact, backend)
    size = vocabulary_size(fixture)
    names = [
        name
        for name, value in arrays.items()
        if value.ndim == 2 and value.shape[0] == size and not HEADS.search(name)
    ]
    name = pick(random, names)
    table = arrays[name].copy()
    unused = [row for row in range(size) if row not in used_tokens(fixture)]
    if len(unused) < MIN_ROWS:
        raise NoSiteError
    table[unused] = change(table[unused])
    write_weights(artifact, backend, {name: table})
    return Planted(
        f"{name}: {len(unused)} rows that no sample uses {what}", module_of_weight(name), name
    )


def vocabulary_size(fixture: Path) -> int:
    """Returns the number of words of a model; 0 if it takes none."""
    config = json.loads((fixture / "config.json").read_text())
    texts = (config, config.get("text_config") or {}, config.get("decoder") or {})
    return next((one["vocab_size"] for one in texts if "vocab_size" in one), 0)


@cache
def used_tokens(fixture: Path) -> frozenset[int]:
    """Returns the tokens of all samples."""
    model = ModelFolder(fixture)
    task = infer_task(model)
    found: set[int] = set()
    try:
        samples = load_samples(task, model)
        for case in all_cases(task, model, samples):
            for name, value in task.encode(model, case).arrays.items():
                if name.endswith("input_ids"):
                    found.update(int(one) for one in np.unique(value))
    except EquipoiseError:
        return frozenset()
    return frozenset(found)


def module_of_weight(name: str) -> str:
    """Returns the module that holds a weight."""
    return name.rpartition(".")[0]
