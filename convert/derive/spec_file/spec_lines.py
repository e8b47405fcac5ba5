"""Finds the lines under ``[modules]``: for every path template the kind, its size expressions and its condition."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.expand import BARE_KINDS
from equipoise.convert.architectures.module_kinds import MODULE_KINDS
from equipoise.convert.derive.probe.observations import ObservedModule, Variant
from equipoise.convert.derive.search.path_templates import PathTemplates, index_combinations
from equipoise.convert.derive.search.sample_points import SamplePoint
from equipoise.convert.derive.search.search import ExpressionSearch
from equipoise.convert.derive.spec_file.spec_text import SpecLine

ModuleSites = Mapping[tuple[int, tuple[int, ...]], ObservedModule]
"""(variant, indices) -> the module there."""


@dataclass
class SpecLines:
    """The lines of all classes.

    Attributes:
        by_class: Class -> its lines.
        unsolved: Modules without an expression; their lines hold for the given config alone.
    """

    by_class: dict[str, list[SpecLine]] = field(default_factory=dict)
    unsolved: list[str] = field(default_factory=list)


def find_lines(
    variants: Sequence[Variant],
    paths: PathTemplates,
    search: ExpressionSearch,
    given: int = 0,
    as_given: Collection[str] = (),
) -> SpecLines:
    """Finds the lines of every class.

    Args:
        variants: The observations.
        paths: The path templates.
        search: Finds the expressions.
        given: The variant whose modules are written one by one where no expression is found.
        as_given: Templates of modules that are always written so.
    """
    return _LineFinder(variants, paths, search, given, as_given).run()


class _LineFinder:
    def __init__(
        self,
        variants: Sequence[Variant],
        paths: PathTemplates,
        search: ExpressionSearch,
        given: int,
        as_given: Collection[str],
    ) -> None:
        self.variants = variants
        self.paths = paths
        self.search = search
        self.given_variant = given
        self.as_given = as_given
        self.found = SpecLines({name: [] for name in variants[0].observations})
        self.places: dict[tuple[tuple[str, ...], int], list[SamplePoint]] = {}

    def run(self) -> SpecLines:
        built = {
            name: {at for at, one in enumerate(self.variants) if name in one.observations}
            for name in self.found.by_class
        }
        for text, by_class in self._sites().items():
            for classes, sites in _group_equal_classes(by_class, built):
                self._solve(text, classes, sites)
        return self.found

    def _sites(self) -> dict[str, dict[str, dict[tuple[int, tuple[int, ...]], ObservedModule]]]:
        """Returns template -> class -> the modules there."""
        found: dict[str, dict[str, dict[tuple[int, tuple[int, ...]], ObservedModule]]] = {}
        for at, variant in enumerate(self.variants):
            for name, observation in variant.observations.items():
                for path, module in observation.modules.items():
                    point = self.paths.paths[path][at, name]
                    sites = found.setdefault(point.template, {}).setdefault(name, {})
                    sites[at, tuple(point.indices.values())] = module
        return found

    def _solve(self, text: str, classes: list[str], sites: ModuleSites) -> None:
        """Finds the lines of one template for classes that have equal modules."""
        built = [at for at, one in enumerate(self.variants) if set(classes) & set(one.observations)]
        lines = None if text in self.as_given else self._lines_of_template(text, built, sites)
        if lines is None:
            kinds = ", ".join(sorted({one.kind for one in sites.values()}))
            self.found.unsolved.append(f"{text} ({kinds}) of {', '.join(classes)}")
            lines = list(self._as_given(text, sites))
        for line in lines:
            for name in classes:
                self.found.by_class[name].append(line)

    def _as_given(self, text: str, sites: ModuleSites) -> Iterator[SpecLine]:
        """Yields one line for every module of a template under the given config."""
        for (at, indices), module in sites.items():
            if at == self.given_variant:
                point = dict(zip(name_templates.index_names(text), indices, strict=True))
                sizes = [str(size) for _, size in module.sizes]
                bias = "False" if module.bias is False else ""
                yield SpecLine(text.format_map(point), _kind_text(module, sizes, bias))

    def _lines_of_template(
        self, text: str, built: list[int], sites: ModuleSites
    ) -> list[SpecLine] | None:
        points = [
            point for at in built for point in self._places(name_templates.index_names(text), at)
        ]
        everywhere = {(one.variant, tuple(one.indices.values())) for one in points}
        if not set(sites) <= everywhere:
            return None
        found = []
        for sort in dict.fromkeys(module.signature for module in sites.values()):
            present = [
                (module := sites.get((one.variant, tuple(one.indices.values())))) is not None
                and module.signature == sort
                for one in points
            ]
            when = self.search.find_condition(points, present)
            inside = [one for one, keep in zip(points, present, strict=True) if keep]
            modules = [sites[one.variant, tuple(one.indices.values())] for one in inside]
            kind = self._kind(inside, modules)
            if when is None or kind is None:
                return None
            found.append(SpecLine(text, kind, when))
        return found

    def _places(self, indices: tuple[str, ...], at: int) -> list[SamplePoint]:
        if (indices, at) not in self.places:
            variant = self.variants[at]
            self.places[indices, at] = [
                SamplePoint(at, variant.values, one)
                for one in index_combinations(indices, self.paths.counts, variant)
            ]
        return self.places[indices, at]

    def _kind(self, points: list[SamplePoint], modules: list[ObservedModule]) -> str | None:
        """Returns the kind with its sizes, e.g. ``linear(hidden_size, intermediate_size, bias=qkv_bias)``."""
        first = modules[0]
        texts = []
        for position in range(len(first.sizes)):
            text = self.search.find_size(points, [one.sizes[position][1] for one in modules])
            if text is None:
                return None
            texts.append(text)
        if first.bias is None:
            return _kind_text(first, texts)
        biased = [bool(one.bias) for one in modules]
        bias = self.search.find_condition(points, biased) if any(biased) else "False"
        return None if bias is None else _kind_text(first, texts, bias)


def _kind_text(module: ObservedModule, sizes: Sequence[str], bias: str = "") -> str:
    """Returns the ``kind(...)`` expression; arguments equal to their default are omitted."""
    texts = []
    for (name, _), text in zip(module.sizes, sizes, strict=True):
        switch = module.kind not in BARE_KINDS and name in MODULE_KINDS[module.kind].switches
        if not switch:
            texts.append(text)
        elif text != str(MODULE_KINDS[module.kind].switches[name]):
            texts.append(f"{name}={text}")
    if bias:
        texts.append(f"bias={bias}")
    return f"{module.kind}({', '.join(texts)})"


def _group_equal_classes(
    by_class: Mapping[str, ModuleSites], built: Mapping[str, set[int]]
) -> Iterator[tuple[list[str], ModuleSites]]:
    """Groups classes whose modules are equal in every common variant; yields each group with all its modules."""
    groups: list[tuple[list[str], set[int], dict[tuple[int, tuple[int, ...]], ObservedModule]]] = []
    for name, sites in by_class.items():
        for names, variants, known in groups:
            both = variants & built[name]
            mine = {key: one for key, one in sites.items() if key[0] in both}
            theirs = {key: one for key, one in known.items() if key[0] in both}
            if both and mine == theirs:
                names.append(name)
                variants |= built[name]
                known.update(sites)
                break
        else:
            groups.append(([name], set(built[name]), dict(sites)))
    for names, _, known in groups:
        yield names, known
