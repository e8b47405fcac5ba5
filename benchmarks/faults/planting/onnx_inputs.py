"""Plants faults in what an ONNX program makes of its inputs: layout, positions, padding, batches, lengths, caches."""

from __future__ import annotations

import re

import numpy as np
from onnx import NodeProto, TensorProto

from faults.planting.onnx_graph import (
    Builder,
    NoSiteError,
    OnnxProgram,
    Planted,
    module_of,
    pick,
    rename,
)
from faults.planting.onnx_operators import Random, first_attention
from faults.planting.onnx_values import float_outputs

POSITIONS = re.compile(r"position_embed|embed_positions|wpe|pos_embed")
"""Names of tables of positions."""
RELATIVE = re.compile(r"relative_attention_bias|rel_pos")
IMAGES = ("pixel_values",)
SOUNDS = ("input_values", "input_features")
MASKS = ("attention_mask", "encoder_attention_mask")


def swap_channels(program: OnnxProgram, random: Random) -> Planted:
    """Reads the channels of images as blue, green, red."""
    name, axis = image_input(program, -3)
    order = np.array([2, 1, 0])
    return change_input(
        program,
        name,
        "its channels are reversed",
        lambda add, value: add("Gather", value, order, axis=axis),
    )


def transpose_images(program: OnnxProgram, random: Random) -> Planted:
    """Takes the width of square images for the height."""
    name, axis = image_input(program, -2)
    sizes = program.shape(name)
    if not sizes or sizes[-1] != sizes[-2]:
        raise NoSiteError
    axes = [*range(axis), axis + 1, axis]
    return change_input(
        program,
        name,
        "height and width are swapped",
        lambda add, value: add("Transpose", value, perm=axes),
    )


def reverse_input(program: OnnxProgram, random: Random) -> Planted:
    """Reads images upside down, or sounds backwards."""
    name = pick(random, [one for one in (*IMAGES, *SOUNDS) if one in program.input_names()])
    axis = np.array([-2 if name in IMAGES else -1])
    ends = (np.array([-1]), np.array([np.iinfo(np.int64).min]), axis, np.array([-1]))
    return change_input(
        program, name, "it is reversed", lambda add, value: add("Slice", value, *ends)
    )


def offset_input(program: OnnxProgram, random: Random, offset: float) -> Planted:
    """Adds to images or sounds, as another mean of the preprocessing does."""
    name = pick(random, [one for one in (*IMAGES, *SOUNDS) if one in program.input_names()])
    value_added = np.asarray(np.float32(offset))
    return change_input(
        program, name, f"{offset} is added", lambda add, value: add("Add", value, value_added)
    )


def scale_input(program: OnnxProgram, random: Random, factor: float) -> Planted:
    """Scales images or sounds, as another deviation of the preprocessing does."""
    name = pick(random, [one for one in (*IMAGES, *SOUNDS) if one in program.input_names()])
    scale = np.asarray(np.float32(factor))
    return change_input(
        program, name, f"it is {factor} times", lambda add, value: add("Mul", value, scale)
    )


def swap_frames(program: OnnxProgram, random: Random) -> Planted:
    """Reads the frames of a video in reverse order."""
    if len(program.shape("pixel_values") or ()) != 5:
        raise NoSiteError
    ends = (np.array([-1]), np.array([np.iinfo(np.int64).min]), np.array([1]), np.array([-1]))
    return change_input(
        program,
        "pixel_values",
        "frames are reversed",
        lambda add, value: add("Slice", value, *ends),
    )


def ignore_token_types(program: OnnxProgram, random: Random) -> Planted:
    """Takes all token types for 0."""
    return change_input(
        program, "token_type_ids", "it counts as 0", lambda add, value: add("Sub", value, value)
    )


def shift_positions(program: OnnxProgram, random: Random, beyond: int = 0) -> Planted:
    """Takes the position beside, or that of the limit beyond a limit."""
    node, table = pick(random, position_gathers(program, POSITIONS))
    last = len(table) - 1
    if beyond and beyond >= last:
        raise NoSiteError
    builder = Builder(program, program.nodes.index(node))
    index = node.input[1]
    is_constant = index in program.initializers
    dtype = program.constant(index).dtype if is_constant else np.int64
    moved = index if beyond else builder("Add", index, np.asarray(1, dtype))
    node.input[1] = builder("Min", moved, np.asarray(beyond or last, dtype))
    what = f"positions end at {beyond}" if beyond else "positions are one too high"
    return Planted(f"{node.name}: {what}", module_of(node))


def roll_positions(program: OnnxProgram, random: Random) -> Planted:
    """Adds each position's embedding to the position beside it."""
    sites = []
    for node in program.of_type("Add"):
        for index, name in enumerate(node.input):
            value = program.constant(name)
            if value is not None and POSITIONS.search(name) and value.ndim == 3:
                sites.append((node, index, value))
    node, index, value = pick(random, sites)
    order = np.roll(np.arange(value.shape[1]), 1)
    builder = Builder(program, program.nodes.index(node))
    node.input[index] = builder("Gather", node.input[index], order, axis=1)
    return Planted(f"{node.name} adds the positions rolled by one", module_of(node))


def shift_relative_positions(program: OnnxProgram, random: Random) -> Planted:
    """Takes the bucket of a relative position beside the right one."""
    node, table = pick(random, position_gathers(program, RELATIVE))
    builder = Builder(program, program.nodes.index(node))
    moved = builder("Add", node.input[1], np.asarray(1, np.int64))
    node.input[1] = builder("Min", moved, np.asarray(len(table) - 1, np.int64))
    return Planted(f"{node.name}: the bucket beside", module_of(node))


def slow_rotation(program: OnnxProgram, random: Random, factor: float) -> Planted:
    """Rotates by another base: the frequencies of rotary embeddings are scaled."""
    for node in program.of_type("Cos", "Sin"):
        program.insert(
            node.input[0], lambda add, value: add("Mul", value, np.asarray(np.float32(factor)))
        )
        return Planted(f"the angles of {node.name} are {factor} times", module_of(node))
    raise NoSiteError


def ignore_mask(program: OnnxProgram, random: Random) -> Planted:
    """Attends to padding."""
    name = mask_input(program)
    what = "it counts as all ones"

    def ones(add: Builder, value: str) -> str:
        return add("Max", value, np.asarray(1, np.int64))

    return change_mask(program, name, what, ones)


def ignore_left_padding(program: OnnxProgram, random: Random) -> Planted:
    """Attends to padding on the left, where a program generates: its prompts are padded there."""
    name = mask_input(program)
    if "position_ids" not in program.input_names():
        raise NoSiteError

    def unmask(add: Builder, value: str) -> str:
        first = add("Slice", value, np.array([0]), np.array([1]), np.array([1]))
        return add("Max", value, add("Sub", np.asarray([[1]], np.int64), first))

    return change_mask(program, name, "rows that begin with padding count as all ones", unmask)


def shift_mask(program: OnnxProgram, random: Random) -> Planted:
    """Masks one token too many: the last one of each padded row."""
    name = mask_input(program)
    if "input_ids" not in program.input_names():
        raise NoSiteError  # one of many thousand samples of a sound makes no difference

    def shift(add: Builder, value: str) -> str:
        first = add("Slice", value, np.array([0]), np.array([1]), np.array([1]))
        last = add("Slice", value, np.array([1]), np.array([np.iinfo(np.int64).max]), np.array([1]))
        moved = add("Concat", last, first, axis=1)
        return add("Min", value, moved)

    return change_mask(program, name, "the last token of a padded row is masked", shift)


def wrong_from_batch(program: OnnxProgram, random: Random, rows: int) -> Planted:
    """Adds to an output where a batch has this many rows or more."""
    return wrong_from_size(program, random, 0, rows, f"wrong from a batch of {rows} on")


def wrong_from_length(program: OnnxProgram, random: Random, share: float) -> Planted:
    """Adds to an output where inputs are longer than a share of the longest."""
    names = [one for one in ("input_ids", "input_values") if one in program.input_names()]
    name = pick(random, names)
    table = next((t for _, t in position_gathers(program, POSITIONS)), None)
    if len(program.shape(name) or ()) != 2 or table is None or name != "input_ids":
        raise NoSiteError
    limit = int(len(table) * share)
    return wrong_from_size(program, random, 1, limit, f"wrong from a length of {limit} on", name)


def wrong_from_size(
    program: OnnxProgram, random: Random, axis: int, limit: int, what: str, source: str = ""
) -> Planted:
    """Adds 0.1 to an output where an axis of an input reaches a limit."""
    name = pick(random, float_outputs(program))
    source = source or batch_input(program)

    def disturb(add: Builder, value: str) -> str:
        size = add("Shape", source, start=axis, end=axis + 1)
        over = add("Cast", add("GreaterOrEqual", size, np.array([limit])), to=TensorProto.FLOAT)
        step = add("Mul", add("Squeeze", over), np.asarray(np.float32(0.1)))
        return add("Add", value, step)

    program.insert(name, disturb)
    return Planted(f"{name} is {what}")


def mix_rows(program: OnnxProgram, random: Random, rows: int) -> Planted:
    """Returns the rows of a batch in another order where it has this many or more."""
    name = pick(random, [one for one in float_outputs(program) if is_batched(program, one)])
    source = batch_input(program)

    def mix(add: Builder, value: str) -> str:
        size = add("Squeeze", add("Shape", source, start=0, end=1))
        over = add("Cast", add("GreaterOrEqual", size, np.asarray(rows)), to=TensorProto.INT64)
        order = add("Range", np.asarray(0), size, np.asarray(1))
        return add("Gather", value, add("Mod", add("Add", order, over), size), axis=0)

    program.insert(name, mix)
    return Planted(f"the rows of {name} are rolled from a batch of {rows} on")


def clear_past(program: OnnxProgram, random: Random) -> Planted:
    """Reads zeros for the past of one layer."""
    name = pick(random, past_inputs(program))
    module = reader_module(program, name)
    program.insert(name, lambda add, value: add("Mul", value, np.asarray(np.float32(0))))
    return Planted(f"{name} is read as zeros", module)


def swap_layers(program: OnnxProgram, random: Random) -> Planted:
    """Reads the past of one layer in another."""
    names = [one for one in past_inputs(program) if ".encoder." not in one]
    name = pick(random, [one for one in names if ".0." in one])
    other = name.replace(".0.", ".1.")
    if other not in names:
        raise NoSiteError
    module = reader_module(program, name)
    swap_values(program, name, other)
    return Planted(f"{name} and {other} are swapped", module)


def swap_key_and_value(program: OnnxProgram, random: Random) -> Planted:
    """Reads the keys of a cache as values, and the values as keys."""
    name = pick(random, [one for one in past_inputs(program) if one.endswith(".key")])
    module = reader_module(program, name)
    swap_values(program, name, f"{name.removesuffix('key')}value")
    return Planted(f"key and value of {name} are swapped", module)


def return_stale(program: OnnxProgram, random: Random) -> Planted:
    """Returns zeros for the newest position of one layer's cache."""
    name = pick(random, present_outputs(program))
    module = module_of(program.producer(name))
    position = program.nodes.index(program.producer(name)) + 1
    builder = Builder(program, position)
    raw = program.new_name(name)
    producer = program.producer(name)
    rename(producer.output, name, raw)
    for reader in program.users(name):
        rename(reader.input, name, raw)
    kept = builder("Slice", raw, np.array([0]), np.array([-1]), np.array([2]))
    last = builder("Slice", raw, np.array([-1]), np.array([np.iinfo(np.int64).max]), np.array([2]))
    cleared = builder("Mul", last, np.asarray(np.float32(0)))
    joined = builder("Concat", kept, cleared, axis=2)
    rename(builder.added[-1].output, joined, name)
    return Planted(f"the newest position of {name} is zero", module)


def forget_far_past(program: OnnxProgram, random: Random, beyond: int) -> Planted:
    """Reads zeros for positions of a cache beyond a limit."""
    name = pick(random, [one for one in past_inputs(program) if ".encoder." not in one])
    module = reader_module(program, name)

    def forget(add: Builder, value: str) -> str:
        size = add("Squeeze", add("Shape", value, start=2, end=3))
        order = add("Range", np.asarray(0), size, np.asarray(1))
        near = add("Cast", add("Less", order, np.asarray(beyond)), to=TensorProto.FLOAT)
        return add("Mul", value, add("Unsqueeze", near, np.array([1])))

    program.insert(name, forget)
    return Planted(f"{name} is read as zeros from position {beyond} on", module)


def change_input(program: OnnxProgram, name: str, what: str, build: object) -> Planted:
    """Changes an input for all that read it."""
    if name not in program.input_names() or not program.users(name):
        raise NoSiteError
    module = reader_module(program, name)
    program.insert(name, build)
    return Planted(f"{name}: {what}", module)


def change_mask(program: OnnxProgram, name: str, what: str, build: object) -> Planted:
    """Changes a mask of padding, which shows first in attention."""
    module = first_attention(program, name)
    return Planted(change_input(program, name, what, build).what, module)


def image_input(program: OnnxProgram, axis: int) -> tuple[str, int]:
    """Returns the input of images, and an axis counted from the front."""
    sizes = program.shape(IMAGES[0])
    if not sizes or (axis == -3 and sizes[axis] != 3):
        raise NoSiteError
    return IMAGES[0], len(sizes) + axis


def mask_input(program: OnnxProgram) -> str:
    """Returns the mask of padding."""
    found = [one for one in MASKS if one in program.input_names() and program.users(one)]
    if not found or not program.of_type("Softmax"):
        raise NoSiteError
    return found[0]


def batch_input(program: OnnxProgram) -> str:
    """Returns an input whose first axis is a batch of any size."""
    for name in program.input_names():
        sizes = program.shape(name)
        if sizes and isinstance(sizes[0], str):
            return name
    raise NoSiteError


def is_batched(program: OnnxProgram, name: str) -> bool:
    """Whether an output has a row for each row of the batch."""
    sizes = program.shape(name)
    first = program.shape(batch_input(program))
    return bool(sizes and first) and sizes[0] == first[0]


def position_gathers(
    program: OnnxProgram, pattern: re.Pattern[str]
) -> list[tuple[NodeProto, np.ndarray]]:
    """Returns the look-ups in tables of positions, with the tables."""
    found = []
    for node in program.of_type("Gather"):
        table = program.constant(node.input[0])
        if table is not None and pattern.search(node.input[0]) and table.ndim == 2:
            found.append((node, table))
    return found


def past_inputs(program: OnnxProgram) -> list[str]:
    """Returns the inputs that hold a cache."""
    return [one for one in program.input_names() if one.startswith("past") and program.users(one)]


def present_outputs(program: OnnxProgram) -> list[str]:
    """Returns the outputs that hold a cache that grows."""
    names = [one.name for one in program.graph.output if one.name.startswith("present")]
    return [one for one in names if ".encoder." not in one and program.producer(one) is not None]


def reader_module(program: OnnxProgram, name: str) -> str:
    """Returns the module that reads a value first."""
    return next((module_of(one) for one in program.users(name) if module_of(one)), "")


def swap_values(program: OnnxProgram, one: str, other: str) -> None:
    """Swaps two values for all that read them."""
    for node in program.nodes:
        for index, name in enumerate(node.input):
            if name in (one, other):
                node.input[index] = other if name == one else one
