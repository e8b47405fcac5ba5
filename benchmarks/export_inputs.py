"""Makes inputs for tiny random models from the shapes in the list of configs.

Values are random, except where a model would reject them: token ids are within the vocabulary, the number of placeholder
tokens matches the number of image or audio features, and image sizes match the pixel values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TEXT_TOKENS = 12
"""Tokens of a text in the list of configs; any tokens beyond these are placeholders of one image or audio clip."""
PATCH_GRID = (1, 4, 4)
"""Grid of patches (time, height, width) of one image, where a model takes images as lists of patches."""
AUDIO_SAMPLES_PER_TOKEN = 100
"""Audio samples by which an input grows for each additional token in a longer batch."""
MIN_TOKEN_ID, MAX_TOKEN_ID = 3, 90
"""Range of plain token ids: above the special tokens of most models, within the vocabulary of all but the smallest."""
PLACEHOLDER_KEYS = ("image_token_id", "image_token_index", "video_token_index", "audio_token_id")
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_mask", "bbox")
INTEGER_INPUTS = ("ids", "mask", "labels", "timesteps", "freq", "padding")


def make_inputs(
    shapes: dict[str, list[int]], config: dict[str, Any], vocabulary: int, rows: int, longer: int
) -> dict[str, Array]:
    """Returns one batch; ``rows`` and ``longer`` are the number of samples and tokens to add to the given shapes."""
    random = np.random.default_rng(0)
    count = next(iter(_inputs_per_sample(shapes).values()))[0] + rows
    made: dict[str, Array] = {}
    for name, shape in shapes.items():
        size = _batch_shape(name, shape, count, longer, shapes)
        made[name] = _fill_input(name, size, shapes, config, vocabulary, random)
    _insert_placeholders(made, shapes, config)
    return made


def has_sequence_axis(shapes: dict[str, list[int]]) -> bool:
    """Checks whether any input has a sequence axis that can be made longer."""
    return any(
        _batch_shape(name, shape, 1, 1, shapes)[1:] != shape[1:] for name, shape in shapes.items()
    )


def _inputs_per_sample(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Returns the inputs whose first axis counts samples, not patches."""
    return {name: shape for name, shape in shapes.items() if not _is_patch_list(name, shapes)}


def _is_patch_list(name: str, shapes: dict[str, list[int]]) -> bool:
    with_grid = any(other.endswith("grid_thw") for other in shapes)
    return with_grid and name in ("pixel_values", "hidden_states")


def _batch_shape(
    name: str, shape: list[int], count: int, longer: int, shapes: dict[str, list[int]]
) -> list[int]:
    """Returns the shape of an input in a batch of ``count`` samples."""
    if _is_patch_list(name, shapes):
        return [count * int(np.prod(PATCH_GRID)), *shape[1:]]
    size = [count, *shape[1:]]
    if len(size) > 1 and name.endswith(TEXT_INPUTS) and "past" not in name:
        # Inputs of multiple choice have the shape (batch, choices, length).
        size[2 if len(shapes.get("input_ids", ())) == 3 else 1] += longer
    if name == "input_values":
        size[-1] += longer * AUDIO_SAMPLES_PER_TOKEN
    return size


def _fill_input(
    name: str,
    size: list[int],
    shapes: dict[str, list[int]],
    config: dict[str, Any],
    vocabulary: int,
    random: np.random.Generator,
) -> Array:
    """Returns an array of valid values for an input, chosen by the input's name."""
    if name.endswith("grid_thw"):
        return np.tile(np.array(PATCH_GRID, np.int64), (size[0], 1))
    if name == "image_sizes":
        return np.tile(np.array(shapes["pixel_values"][-2:], np.int64), (size[0], 1))
    if name == "spatial_shapes":
        return np.tile(np.array(PATCH_GRID[1:], np.int64), (size[0], 1))
    if name == "bbox":
        return np.sort(random.integers(0, MAX_TOKEN_ID, size), axis=-1)
    if name.endswith("token_type_ids"):
        return np.zeros(size, np.int64)
    if name == "image_embeds_position_mask":
        mask = np.zeros(size, np.int64)
        mask[:, : min(config["latent_query_num"], shapes[name][1])] = 1
        return mask
    if name == "flattened_patches":
        patches = random.standard_normal(size).astype(np.float32)
        patches[..., :2] = np.arange(size[1])[:, None]  # the row and the column of a patch
        return patches
    if name.endswith("mask"):
        mask = np.ones(size, np.int64)
        if name == "attention_mask" and "pixel_values" not in shapes:
            mask[1, ..., -3:] = 0
        return mask
    if name.endswith(("freq", "padding")):
        return np.zeros(size, np.int64)
    if name.endswith(INTEGER_INPUTS):
        special = set(_special_tokens(config))
        plain = list(range(MIN_TOKEN_ID, max(min(vocabulary, MAX_TOKEN_ID), MIN_TOKEN_ID + 1)))
        tokens = random.choice([one for one in plain if one not in special] or plain, size)
        if name == "input_ids" and config.get("is_encoder_decoder"):
            # Classification heads of BART read the state at the last end-of-text token.
            tokens[..., -1] = config.get("eos_token_id") or tokens[..., -1]
        return tokens
    return random.standard_normal(size).astype(np.float32)


def _special_tokens(config: dict[str, Any]) -> list[int]:
    """Returns the special token ids of a config, including nested configs."""
    found = [
        value for name, value in config.items() if str(name).endswith(("token_id", "token_index"))
    ]
    for value in config.values():
        if isinstance(value, dict):
            found += _special_tokens(value)
    return [value for value in found if isinstance(value, int)]


def _insert_placeholders(
    made: dict[str, Array], shapes: dict[str, list[int]], config: dict[str, Any]
) -> None:
    """Puts the placeholders of images and audio after the first token of each text."""
    tokens = [config[name] for name in PLACEHOLDER_KEYS if isinstance(config.get(name), int)]
    if (
        "input_ids" not in made
        or not tokens
        or not set(shapes) & {"pixel_values", "input_features"}
    ):
        return
    where = slice(1, 1 + shapes["input_ids"][1] - TEXT_TOKENS)
    made["input_ids"][:, where] = tokens[0]
    if "mm_token_type_ids" in made:
        made["mm_token_type_ids"][:, where] = 1
