"""Reads the exceptions of one layout: the sections ``[pytorch]``, ``[tensorflow]``, ``[flax]`` and ``[google]`` of an architecture.

    paths = { "cls.predictions" = "mlm___cls/predictions" }    module path, or a prefix of one -> its path there
    leaves = { "bert...word_embeddings.weight" = "weight" }    parameter -> its leaf there
    ops = { "logit_scale" = ["add_axis(0)"] }                  parameter -> operations from PyTorch's form
    shared = { "lm_head.weight" = "" }                         ties that this layout always shares; a string is the
                                                               reason to refuse a tensor of its own
    stored = ["predictions.decoder.bias"]                      ties that this layout stores twice nevertheless
    refused = { PARAMETER = REASON }                           cannot be stored; also the path of a module
    left_out = { PARAMETER = REASON }                          not stored, because it follows from the config
    dtypes = { PARAMETER = "float32" }                         always stored in this dtype: whole numbers in another framework's
    wrong = { CLASS = REASON }                                 classes with other outputs than PyTorch's; "*" for all
    unproven = { CLASS = REASON }                              classes whose names no code of others judges; "*" for all
    ignored = { NAME = REASON }                                may be in files, not needed
    indices = "."                                              TF: how a number is joined to the name before it
    groups = { "model.shared" = "model" }                      TF: first component -> layer in HDF5; "" for none
    also_in = { "mlm___cls" = "bert/embeddings" }              TF: layer in HDF5 -> names that it lists too
    roots = { "model.shared" = "model.shared" }                TF: first component -> root name before it
    prefixes = ["text_model."]                                 PyTorch: may be missing in files
    keras = { ... }                                            KerasHub: its classes and config, see keras_hub.py
    rules = [{ sources = [...], targets = [...], ops = [...] }]   several parameters at once
    kinds = { "norm.weight" = "g" }                            kind.leaf -> its leaf there
    aliases = { "layer_norm" = "rms_norm" }                    Google: part of a name -> another spelling of it; PyTorch: start of one
    marks = ["bert/encoder/layer_{layer}/output/dense/kernel"]  Google: names that tell this architecture's files
    classes = ["ForPreTraining", "Model"]                      Google: the classes, in the order in which they are tried
    averages = ["MobilenetV2/"]                                Google: scopes where moving averages are taken for weights
    config_files = [...], config = { ... }                     Google: see convert/research/repository_config.py
    files = { "*.model" = "spiece.model" }                     Google: file beside the weights -> its name for transformers

A value may be a table ``{ to = ..., when = ... }`` with a condition. Numbers in operations may be expressions over the config.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from equipoise.convert.architectures import expressions, name_templates
from equipoise.convert.architectures.expand import Expansion, ExpressionScope, Parameter
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.core import ops, row_ops
from equipoise.convert.core.errors import SpecError
from equipoise.convert.core.ops import Op
from equipoise.convert.core.rules import Rule

OVERRIDE_KEYS = frozenset((
    "paths", "leaves", "ops", "shared", "stored", "refused", "left_out", "wrong", "ignored",
    "rules", "indices", "groups", "also_in", "roots", "prefixes", "kinds", "aliases", "classes", "marks", "config",
    "config_files", "files", "averages", "keras", "unproven", "dtypes",
))  # fmt: skip


KERAS_TABLE = "keras"
"""The table of classes and config fields, which is no table of parameters."""


class LayoutOverrides:
    """The section of one layout in an architecture and in those of its parts, evaluated for one config."""

    def __init__(self, expansion: Expansion, layout: str) -> None:
        self.expansion = expansion
        self.spec = expansion.spec
        self._scope = ExpressionScope(expansion.spec, expansion.config, expansion.cls.key)
        self._tables: dict[str, Any] = {}
        for part in self.spec.parts.values():
            tower = load_spec(part.spec) if part.spec and not part.under else None
            if tower is not None:
                config = expansion.config.part(part.config)
                self._add_section(
                    ExpressionScope(tower, config, expansion.cls.key), tower.layouts[layout]
                )
        self._add_section(self._scope, self.spec.layouts[layout])

    def _add_section(self, scope: ExpressionScope, section: Mapping[str, Any]) -> None:
        """Adds a section; its conditions are evaluated with the config of its own architecture."""
        spec = scope.spec
        unknown = sorted(set(section) - OVERRIDE_KEYS)
        if unknown:
            raise SpecError(f"unknown key {unknown[0]!r} of a layout", file=spec.file)
        for key, value in section.items():
            if key == KERAS_TABLE:
                continue
            old = self._tables.get(key)
            if isinstance(value, Mapping):
                value = {**(old or {}), **dict(_entries_that_hold(value, scope))}
            self._tables[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a plain value of the section."""
        return self._tables.get(key, default)

    def table(self, key: str) -> dict[str, Any]:
        """Returns a table of the section, without entries whose condition fails."""
        table: dict[str, Any] = self._tables.get(key, {})
        return table

    def for_parameter(self, key: str, parameter: Parameter) -> Any:
        """Returns a parameter's entry in a table, by its template or name; None if there is none."""
        table = self.table(key)
        return table.get(parameter.template, table.get(parameter.name))

    def of_class(self, key: str) -> str:
        """Returns the entry of the expanded class in a table of reasons, or that of all classes; empty if there is none."""
        table = self.table(key)
        return str(table.get(self.expansion.cls.key, table.get("*", "")))

    def refusal(self, parameter: Parameter) -> str | None:
        """Returns why a parameter cannot be stored, by its name or that of a module that it lies in; None if it can."""
        reason = self.for_parameter("refused", parameter)
        if reason is not None:
            return str(reason)
        inside = (
            text
            for module, text in self.table("refused").items()
            if parameter.template.startswith(f"{module}.")
        )
        return next(inside, None)

    def path(self, parameter: Parameter) -> tuple[str, str]:
        """Returns a parameter's module path as (renamed prefix, remaining path in PyTorch's spelling)."""
        module = parameter.template.removesuffix(f".{parameter.leaf}" if parameter.leaf else "")
        return self.path_of(module, parameter.module, parameter.indices)

    def path_of(self, module: str, path: str, indices: Mapping[str, int]) -> tuple[str, str]:
        """Returns the same for a module's template, path and indices."""
        best = max(
            (old for old in self.table("paths") if module == old or module.startswith(f"{old}.")),
            key=len,
            default=None,
        )
        if best is None:
            return "", path
        rest = module[len(best) :].removeprefix(".")
        renamed = self.format(self.table("paths")[best], indices)
        return renamed, name_templates.format_name(rest, indices)

    def format(self, template: str, indices: Mapping[str, int]) -> str:
        """Returns a name for indices; the template may use names under ``[let]`` like them."""
        self._scope.indices = dict(indices)
        values = {one: self._scope.lookup(one) for one in name_templates.index_names(template)}
        self._scope.indices = {}
        return name_templates.format_name(template, values)

    def ops(self, parameter: Parameter) -> tuple[Op, ...] | None:
        """Returns the section's operations for a parameter; None if it is regular."""
        texts = self.for_parameter("ops", parameter)
        if texts is None:
            return None
        self._scope.indices = dict(parameter.indices)
        found = tuple(parse_op(text, self._scope) for text in texts)
        self._scope.indices = {}
        return found

    def multi_parameter_rules(self) -> list[Rule]:
        """Returns the rules over several parameters, one for every value of the indices that both sides use."""
        return [
            rule for entry in self._tables.get("rules", []) for rule in self._rules_of_entry(entry)
        ]

    def _rules_of_entry(self, entry: Mapping[str, Any]) -> list[Rule]:
        sources, targets = entry["sources"], entry["targets"]
        fields = [
            {field for one in side for field in name_templates.index_names(one)}
            for side in (sources, targets)
        ]
        outer = tuple(name for name in self.spec.repeat if name in fields[0] & fields[1])
        found = []
        for indices in list(self._scope.index_combinations(outer)):
            self._scope.indices = dict(indices)
            if not self._scope.holds(entry.get("when")):
                continue
            left = [name for one in sources for name in self._expand_template(one, indices)]
            right = [name for one in targets for name in self._expand_template(one, indices)]
            self._scope.indices = dict(indices)
            steps = tuple(
                parse_op(text, self._scope, max(len(left), len(right))) for text in entry["ops"]
            )
            self._scope.indices = {}
            found.append(Rule(tuple(left), tuple(right), steps))
        return found

    def _expand_template(self, text: str, indices: Mapping[str, int]) -> list[str]:
        """Returns all names of a template for fixed ``indices`` and all values of its other indices."""
        fields = name_templates.index_names(text)
        rest = tuple(one for one in fields if one not in indices and one in self.spec.repeat)
        self._scope.indices = dict(indices)
        combinations = list(self._scope.index_combinations(rest))
        return [self.format(text, inner) for inner in combinations]


def _entries_that_hold(
    table: Mapping[str, Any], scope: ExpressionScope
) -> Iterator[tuple[str, Any]]:
    """Yields the entries of a table whose condition holds."""
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield name, value
        elif scope.holds(value["when"]):
            yield name, value["to"]


_OP_BUILDERS: dict[str, Callable[..., Op]] = {
    "permute": lambda *axes: ops.Permute(axes),
    "add_axis": ops.AddAxis,
    "drop_axis": ops.DropAxis,
    "concat": lambda axis, *sizes: ops.Concat(axis, sizes),
    "split": lambda axis, *sizes: ops.Split(axis, sizes),
    "split_axis": lambda axis, *sizes: ops.SplitAxis(axis, sizes),
    "merge_axes": lambda axis, *sizes: ops.MergeAxes(axis, sizes),
    "stack": ops.Stack,
    "unstack": ops.Unstack,
    "pad": ops.Pad,
    "drop_last": ops.Unpad,
    "drop_first": lambda axis, count: ops.Unpad(axis, count, first=True),
    "add_row": row_ops.AddRow,
    "copy": row_ops.Copy,
    "tile": row_ops.Tile,
}


def parse_op(text: str, scope: ExpressionScope, count: int = 1) -> Op:
    """Parses an operation, e.g. ``permute(1, 0)``; ``stack`` and ``unstack`` get the number of tensors.

    >>> from equipoise.convert.architectures.config import Config
    >>> from equipoise.convert.architectures.spec import load_spec
    >>> parse_op("split_axis(1, n_head, 8)", ExpressionScope(load_spec("xlnet"), Config({"n_head": 3}), "Model"))
    SplitAxis(axis=1, sizes=(3, 8))

    Raises:
        SpecError: It is not an operation.
    """
    node = expressions.parse_expression(text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "at":
            position, inner = node.args
            return ops.At(scope.evaluate_size(position), parse_op(ast.unparse(inner), scope))
        if node.func.id in _OP_BUILDERS:
            numbers: Sequence[int] = [scope.evaluate_size(arg) for arg in node.args]
            if node.func.id in ("stack", "unstack"):
                numbers = (*numbers, count)
            return _OP_BUILDERS[node.func.id](*numbers)
    raise SpecError(
        f"not an operation: {text!r}", file=scope.spec.file, expected=sorted(_OP_BUILDERS)
    )
