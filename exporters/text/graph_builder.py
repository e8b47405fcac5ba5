"""Builds ONNX graphs node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from equipoise.convert.core.framework_types import OnnxGraph

EXTENSIONS = "ai.onnx.contrib"
"""Domain of the operators of onnxruntime-extensions."""
ML = "ai.onnx.ml"
OPSETS = {EXTENSIONS: 1, ML: 4}
"""Opsets that a graph needs beside ONNX's own."""
FIRST_MARK = 0xF0000
MARK_POINTS = range(FIRST_MARK, 0xFFFFE)
"""The private-use plane 15: marks of added tokens."""
BOOL = 9
INT64 = 7
"""Element types of ONNX, as ``Cast`` takes them."""
NO_MATCH = "\uffff"
"""What ``LabelEncoder`` returns for a string that it does not know; no text contains this noncharacter by intent."""


Value = TypeVar("Value")
"""A vector of strings: its name in a graph, or a tensor."""


class TextBuilder(Protocol[Value]):
    """What rules for texts are written with, in a graph of ONNX or a function of TensorFlow; patterns are RE2's in both."""

    def replace(self, text: Value, pattern: str, replacement: str) -> Value:
        r"""Replaces all matches of a pattern in each string; ``\1`` stands for its first group."""

    def split(self, text: Value, pattern: str, keep: str = "") -> Value:
        """Splits strings at the matches of a pattern, which has a group around it; those that match ``keep`` stay."""

    def join(self, texts: Value) -> Value:
        """Joins a vector of strings to a vector of one."""

    def translate(self, texts: Value, table: Mapping[str, str]) -> Value:
        """Replaces the strings that are keys of a table by their values; the others stay."""


class GraphBuilder:
    """Nodes and constants of a graph; names get a prefix and a number, so that two graphs can be joined.

    Args:
        prefix: Begins every name.

    Attributes:
        nodes: The nodes in their order.
        initializers: The constants.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[object] = []
        self.initializers: list[object] = []
        self._count = 0

    def new_name(self, role: str) -> str:
        """Returns a name that no other value has."""
        self._count += 1
        return f"{self.prefix}{role}_{self._count}"

    def add(
        self, op: str, inputs: Sequence[str], /, *, domain: str = "", **attributes: object
    ) -> str:
        """Adds a node with one output; returns the output's name."""
        return self.add_many(op, inputs, 1, domain=domain, **attributes)[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[str],
        count: int,
        /,
        *,
        domain: str = "",
        **attributes: object,
    ) -> list[str]:
        """Adds a node with several outputs; returns their names."""
        from onnx import helper

        outputs = [self.new_name(op) for _ in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, domain=domain, **attributes))
        return outputs

    def integers(self, *values: int) -> str:
        """Adds a constant int64 vector."""
        return self._constant("INT64", list(values), [len(values)])

    def integer(self, value: int) -> str:
        """Adds a constant int64 scalar."""
        return self._constant("INT64", [value], [])

    def floats(self, *values: float) -> str:
        """Adds a constant float32 vector."""
        return self._constant("FLOAT", list(values), [len(values)])

    def booleans(self, *values: bool) -> str:
        """Adds a constant boolean vector."""
        return self._constant("BOOL", list(values), [len(values)])

    def text(self, value: str) -> str:
        """Adds a constant vector of one string."""
        return self._constant("STRING", [value.encode()], [1])

    def replace(self, text: str, pattern: str, replacement: str) -> str:
        r"""Replaces all matches of an RE2 pattern; ``\1`` stands for its first group."""
        return self.add(
            "StringRegexReplace",
            [text, self.text(pattern), self.text(replacement)],
            domain=EXTENSIONS,
        )

    def split(self, text: str, pattern: str, keep: str = "") -> str:
        """Splits one string at the matches of an RE2 pattern; those that match ``keep`` stay.

        Both patterns need a group around them: it is what is kept.
        """
        return self.add_many(
            "StringRegexSplitWithOffsets",
            [text, self.text(pattern), self.text(keep)],
            4,
            domain=EXTENSIONS,
        )[0]

    def join(self, texts: str) -> str:
        """Joins a vector of strings to a vector of one."""
        return self.add("StringJoin", [texts, self.text(""), self.integers(0)], domain=EXTENSIONS)

    def translate(self, texts: str, table: Mapping[str, str]) -> str:
        """Replaces the strings that are keys of a table by their values; the others stay."""
        if not table:
            return texts
        found = self.add(
            "LabelEncoder",
            [texts],
            domain=ML,
            keys_strings=list(table),
            values_strings=list(table.values()),
            default_string=NO_MATCH,
        )
        is_other = self.add(
            "LabelEncoder",
            [found],
            domain=ML,
            keys_strings=[NO_MATCH],
            values_int64s=[1],
            default_int64=0,
        )
        return self.add("Where", [self.add("Cast", [is_other], to=BOOL), texts, found])

    def graph(self, name: str, inputs: Sequence[object], outputs: Sequence[object]) -> OnnxGraph:
        """Returns the graph with these inputs and outputs."""
        from onnx import helper

        return helper.make_graph(
            self.nodes, name, list(inputs), list(outputs), initializer=self.initializers
        )

    def _constant(self, kind: str, values: Sequence[object], shape: Sequence[int]) -> str:
        from onnx import TensorProto, helper

        name = self.new_name("constant")
        kind_of = TensorProto.DataType.Value(kind)
        self.initializers.append(helper.make_tensor(name, kind_of, list(shape), list(values)))
        return name
