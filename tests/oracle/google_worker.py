"""Functions for the oracle's worker: writes a TF1 checkpoint with ``Saver`` and loads it with a loader of 4.57.6."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS = 3
"""Pieces of a partitioned variable."""

HUB_LOADER = "load_tf_weights_in_bert_generation"
"""The loader that reads a module of TensorFlow Hub."""

EVERY = 29
"""Of so many variables one gets slots and averages, to save time."""


def write(
    weights: str,
    training: str,
    variables: dict[str, list[int]],
    partitioned: str | None = None,
    dtype: str = "float32",
) -> None:
    """Writes two checkpoints of version 2 with ``tf.compat.v1.train.Saver``, one of them as training leaves it.

    Args:
        weights: What the files of the weights alone begin with.
        training: The same where optimizer slots, moving averages and a step are stored too.
        variables: Names and shapes; the values follow from the names.
        partitioned: The variable that is stored in slices.
        dtype: Of all variables.
    """
    import numpy as np
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf1.Graph().as_default(), tf1.Session() as session:
        for name, shape in variables.items():
            generator = np.random.default_rng(zlib.crc32(name.encode()))
            value = np.asarray(generator.normal(0, 0.3, shape), np.float32)
            slicing = (
                {"partitioner": tf1.fixed_size_partitioner(PARTS)} if name == partitioned else {}
            )
            tf1.get_variable(name, shape, dtype, initializer=_values(value), **slicing)
        alone = tf1.train.Saver()
        _add_training_state(list(variables.items())[::EVERY])
        session.run(tf1.global_variables_initializer())
        alone.save(session, weights, write_meta_graph=False)
        tf1.train.Saver().save(session, training, write_meta_graph=False)


def _values(value: Any) -> Any:
    """Returns an initializer that gives these values, or a part of their rows to a part of a variable."""

    def initialize(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        import tensorflow as tf

        start = partition_info.var_offset[0] if partition_info is not None and len(shape) else 0
        part = value[start : start + shape[0]] if len(shape) else value
        return tf.cast(part, dtype)

    return initialize


def _add_training_state(variables: list[tuple[str, list[int]]]) -> None:
    """Adds what optimizers and averages of the research repositories store beside the weights."""
    import numpy as np
    import tensorflow as tf

    tf1 = tf.compat.v1
    slots = (
        "adam_m",
        "adam_v",
        "Adam",
        "Adam_1",
        "RMSProp",
        "Momentum",
        "ExponentialMovingAverage",
    )
    for name, shape in variables:
        for slot in slots:
            tf1.get_variable(f"{name}/{slot}", initializer=np.full(shape, 7, np.float32))
        for ending in ("_slot_v", "_slot_vr", "_slot_vc"):
            tf1.get_variable(f"{name}{ending}", initializer=np.full(shape[-1:], 7, np.float32))
    for name in ("beta1_power", "beta2_power"):
        tf1.get_variable(name, initializer=np.float32(0.5))
    tf1.get_variable("global_step", initializer=np.int64(343))


def load(
    model: str,
    config: dict[str, Any],
    loader: str,
    prefix: str,
    output: str,
    arguments: dict[str, Any] | None = None,
    call: str = "model, config, prefix",
    lent: dict[str, str] | None = None,
) -> None:
    """Loads a checkpoint with a loader into a model whose every number is NaN before, and saves what it then holds.

    Args:
        model: Module below ``transformers.models`` and class, e.g. ``bert.modeling_bert.BertModel``.
        config: Values of its config.
        loader: Name of the function, in the same module.
        prefix: The checkpoint.
        output: The safetensors file to write.
        arguments: Further arguments of the loader.
        call: What the loader takes, in order.
        lent: Attributes that the loader looks for where the class does not have them -> where it has them.
    """
    import torch
    from safetensors.torch import save_file

    path, _, name = model.rpartition(".")
    module = importlib.import_module(f"transformers.models.{path}")
    cls = getattr(module, name)
    made = cls.config_class(**config)
    target = cls(made)
    with torch.no_grad():
        for tensor in (*target.parameters(), *target.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
    for place, path_in_model in (lent or {}).items():
        owner, _, attribute = place.rpartition(".")
        held = functools.reduce(getattr, path_in_model.split("."), target)
        object.__setattr__(target.get_submodule(owner), attribute, held)
    values = {"model": target, "config": made, "prefix": prefix, "class_name": name}
    given = [values[one] for one in call.split(", ")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as stack:
        if loader == HUB_LOADER:
            stack.enter_context(_tensorflow_hub())
        getattr(module, loader)(*given, **(arguments or {}))
    target.tie_weights()
    found = {
        name: tensor.clone().contiguous()
        for name, tensor in target.state_dict().items()
        if not torch.isnan(tensor).any()
    }
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    save_file(found, output)


def list_loaders() -> list[str]:
    """Returns the modules below ``transformers.models`` that define a loader of TF1 checkpoints."""
    import transformers.models

    root = Path(transformers.models.__file__).parent
    found = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in root.rglob("modeling_*.py")
        if "\ndef load_tf_weights_in_" in path.read_text(encoding="utf-8")
    ]
    return sorted(found)


def loader_code(name: str) -> str:
    """Returns the loop of a loader as Python's parser sees it, without what it logs and how it checks shapes."""
    import transformers.models

    path = Path(transformers.models.__file__).parent.joinpath(*name.split("."))
    tree = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))
    loader = next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("load_tf_weights_in_")
    )
    loop = [node for node in loader.body if isinstance(node, ast.For)][-1]
    loop.body = [one for one in loop.body if not _is_a_check(one)]
    text = ast.unparse(loop)
    return "\n".join(line for line in text.splitlines() if "logger." not in line)


def _is_a_check(node: ast.stmt) -> bool:
    """Whether a statement compares the shapes of a parameter and a variable."""
    text = ast.unparse(node)
    return isinstance(node, ast.Try | ast.If | ast.Assert) and "pointer.shape" in text


def compare_squad_heads(prefix: str, folder: str, width: int) -> dict[str, float]:
    """Computes XLNet's heads for SQuAD from variables as its repository does, and from a folder with transformers' modules.

    Returns:
        The largest difference of each head, relative to the largest magnitude.
    """
    import tensorflow as tf
    import torch
    from transformers import XLNetForQuestionAnswering

    model = XLNetForQuestionAnswering.from_pretrained(folder).eval()
    reader = tf.train.load_checkpoint(prefix)

    def layer(name: str, values: Any) -> Any:
        found = values @ reader.get_tensor(f"{name}/kernel")
        return (
            found + reader.get_tensor(f"{name}/bias")
            if reader.has_tensor(f"{name}/bias")
            else found
        )

    hidden = tf.random.stateless_normal((2, 3, width), (1, 2))
    start = tf.random.stateless_normal((2, 3, width), (3, 4))
    inside = tf.tanh(layer("end_logits/dense_0", tf.concat([hidden, start], -1)))
    mean, variance = tf.nn.moments(inside, [-1], keepdims=True)
    scale, shift = (reader.get_tensor(f"end_logits/LayerNorm/{one}") for one in ("gamma", "beta"))
    normal = tf.nn.batch_normalization(inside, mean, variance, shift, scale, 1e-12)
    feature = tf.tanh(layer("answer_class/dense_0", tf.concat([start, hidden], -1)))
    expected = {
        "start": layer("start_logits/dense", hidden)[..., 0],
        "end": layer("end_logits/dense_1", normal)[..., 0],
        "class": layer("answer_class/dense_1", feature)[:, 0, 0],
    }
    states, starts = (torch.from_numpy(one.numpy()) for one in (hidden, start))
    with torch.no_grad():
        found = {
            "start": model.start_logits(states),
            "end": model.end_logits(states, start_states=starts),
            "class": model.answer_class(
                states, start_states=starts[:, 0], cls_index=torch.tensor([0, 0])
            ),
        }
    pairs = {name: (value.numpy(), expected[name].numpy()) for name, value in found.items()}
    return {
        name: float(abs(value - wanted).max() / abs(wanted).max())
        for name, (value, wanted) in pairs.items()
    }


@contextlib.contextmanager
def _tensorflow_hub() -> Iterator[None]:
    """Stands in for TensorFlow Hub, which does not run with new TensorFlow: a module is the variables of a checkpoint."""
    from unittest import mock

    import tensorflow as tf

    class Module:
        def __init__(self, prefix: str) -> None:
            reader = tf.train.load_checkpoint(prefix)
            names = reader.get_variable_to_shape_map()
            self.variable_map = {
                one: tf.compat.v1.get_variable(one, initializer=reader.get_tensor(one))
                for one in names
            }

    hub = types.SimpleNamespace(Module=Module)
    stubs = {"tensorflow_hub": hub, "tensorflow_text": types.ModuleType("tensorflow_text")}
    no_effect = mock.patch.object(tf.compat.v1, "disable_eager_execution")
    with mock.patch.dict(sys.modules, stubs), no_effect, tf.Graph().as_default():
        yield
