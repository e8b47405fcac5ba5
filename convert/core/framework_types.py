"""Names for types that a type checker cannot see: those of optional frameworks, and parsed JSON.

Each is ``Any`` to a type checker and says to a reader which class a value is of.
"""

from __future__ import annotations

from typing import Any, TypeAlias

TorchTensor: TypeAlias = Any
"""``torch.Tensor``."""
TorchModule: TypeAlias = Any
"""``torch.nn.Module``."""
TorchModel: TypeAlias = Any
"""A model of transformers: ``transformers.PreTrainedModel``."""
TorchDtype: TypeAlias = Any
"""``torch.dtype``."""
ExportedProgram: TypeAlias = Any
"""``torch.export.ExportedProgram``."""
FxNode: TypeAlias = Any
"""``torch.fx.Node``."""
FxGraph: TypeAlias = Any
"""``torch.fx.GraphModule`` or its graph."""
FxArgument: TypeAlias = Any
"""An argument of a node: a node, a number, or a nested list of such."""
TorchSize: TypeAlias = Any
"""A size as PyTorch has it: ``int`` or ``torch.SymInt``."""
ShapeEnv: TypeAlias = Any
"""``torch.fx.experimental.symbolic_shapes.ShapeEnv``."""
SympyExpr: TypeAlias = Any
"""``sympy.Expr``: PyTorch's form of sizes and conditions on sizes."""
SympySymbol: TypeAlias = Any
"""``sympy.Symbol``: one dynamic size of PyTorch."""
KvCache: TypeAlias = Any
"""``transformers.Cache``."""

SymbolicDim: TypeAlias = Any
"""A size as JAX has it: ``int`` or a symbolic dimension of ``jax.export``."""
JaxArray: TypeAlias = Any
"""``jax.Array``, or a traced value of one."""
JaxDtype: TypeAlias = Any
"""``numpy.dtype`` as JAX gives it, bfloat16 included."""
JaxExported: TypeAlias = Any
"""``jax.export.Exported``."""
JaxTree: TypeAlias = Any
"""A pytree of arrays."""

OnnxModel: TypeAlias = Any
"""``onnx_ir.Model``."""
OnnxGraph: TypeAlias = Any
"""``onnx_ir.Graph``."""
OnnxValue: TypeAlias = Any
"""``onnx_ir.Value``."""
TfFunction: TypeAlias = Any
"""``tf.types.experimental.ConcreteFunction`` or a ``tf.function``."""
TfModule: TypeAlias = Any
"""``tf.Module``."""

AtenScalar: TypeAlias = Any
"""A number argument of an ATen operator: Python number, symbolic dimension, or array without axes."""
AtenSizes: TypeAlias = Any
"""Sizes, strides or paddings of an ATen operator: a list of integers and symbolic dimensions, or one of them."""
AtenAxes: TypeAlias = Any
"""Axes of an ATen operator: an integer, a list of integers, or None for all axes."""
Unused: TypeAlias = Any
"""An argument that has no meaning in JAX, such as a device or a memory layout."""

NnxModule: TypeAlias = Any
"""``flax.nnx.Module``."""

TorchDevice: TypeAlias = Any
"""``torch.device``."""
ScriptModule: TypeAlias = Any
"""``torch.jit.ScriptModule``."""
ScriptGraph: TypeAlias = Any
"""``torch.Graph``, a graph of TorchScript, or a node or value of one."""
FlaxModel: TypeAlias = Any
"""A Flax model of transformers 4.57.6: ``FlaxPreTrainedModel``."""
TfModel: TypeAlias = Any
"""A TensorFlow model of transformers 4.57.6: ``TFPreTrainedModel``."""
TfTensor: TypeAlias = Any
"""``tf.Tensor``."""
OrtSession: TypeAlias = Any
"""``onnxruntime.InferenceSession``."""
PilImage: TypeAlias = Any
"""``PIL.Image.Image``."""
Tokenizer: TypeAlias = Any
"""A tokenizer of transformers: ``PreTrainedTokenizerBase``."""
Processor: TypeAlias = Any
"""A processor, image processor or feature extractor of transformers."""

TensorStoreModule: TypeAlias = Any
"""The module ``tensorstore``."""
TensorStore: TypeAlias = Any
"""``tensorstore.TensorStore``: an open array."""

JsonValue: TypeAlias = Any
"""A value that JSON has: a string, number, boolean, None, list or dict."""
