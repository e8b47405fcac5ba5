"""Composes an architecture file from observations and checks it under the given config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from equipoise.convert.architectures.spec import ArchitectureSpec, read_spec
from equipoise.convert.derive.probe.observations import ConfigValues, Variant
from equipoise.convert.derive.search.path_templates import PathTemplates
from equipoise.convert.derive.search.search import ExpressionSearch
from equipoise.convert.derive.spec_file.check import mismatches
from equipoise.convert.derive.spec_file.spec_lines import find_lines
from equipoise.convert.derive.spec_file.spec_text import SpecDraft, join_limited, render_spec
from equipoise.convert.derive.spec_file.ties import find_ties, parameter_template
from equipoise.convert.files.ownership import FILE_MARK


@dataclass(frozen=True)
class Observations:
    """All observations of a model type.

    Attributes:
        model_type: Its name.
        variants: The variants, the base first.
        prefixed_variants: The same with the prefix before all names.
        given_variant: Index of the variant with the given config.
        prefix: The prefix that base classes omit.
        bases: The base classes.
        paths: All names as templates.
        defaults: Defaults of config fields by dotted name.
        unchangeable: Config fields that could not be changed.
    """

    model_type: str
    variants: Sequence[Variant]
    prefixed_variants: Sequence[Variant]
    given_variant: int
    prefix: str
    bases: frozenset[str]
    paths: PathTemplates
    defaults: ConfigValues
    unchangeable: Sequence[str]


@dataclass(frozen=True)
class ComposedSpec:
    """A composed file: text, parsed spec, modules without an expression, and whether it is exact for the given config."""

    text: str
    spec: ArchitectureSpec
    unsolved: Sequence[str]
    exact_for_given_config: bool


def compose_spec(observations: Observations, search: ExpressionSearch) -> ComposedSpec:
    """Composes the file; modules that would be wrong under the given config are written as they are there."""
    as_given: set[str] = set()
    while True:
        found, more = _compose_once(observations, search, as_given)
        differing = mismatches(found.spec, observations.variants[observations.given_variant])
        for cls, name in differing:
            full = f"{observations.prefix}.{name}" if cls in observations.bases else name
            template = parameter_template(
                full, (observations.given_variant, cls), observations.paths
            )
            if template is not None:
                more |= {template.template, _module_of_parameter(template.template)}
        if more <= as_given:
            return replace(found, exact_for_given_config=not differing)
        as_given |= more


def _compose_once(
    observations: Observations, search: ExpressionSearch, as_given: set[str]
) -> tuple[ComposedSpec, set[str]]:
    """Returns the file, and the modules that must be written one by one because their ties are."""
    paths, prefixed = observations.paths, observations.prefixed_variants
    found = find_lines(prefixed, paths, search, observations.given_variant, as_given)
    shared = find_ties(prefixed, paths, search, observations.given_variant, as_given)
    counts = [f"the count of {one}" for one in paths.unsolved]
    unsolved = [*counts, *found.unsolved, *shared.unsolved]
    stuck = join_limited(observations.unchangeable, 40)
    draft = SpecDraft(
        observations.model_type,
        observations.prefix,
        observations.bases,
        found.by_class,
        paths.counts,
        shared.by_parameter,
        observations.defaults,
        (
            FILE_MARK,
            f"Derived from PyTorch's model under {len(observations.variants)} configs; to be reviewed.",
            *(f"As the given config has it, no expression was found: {one}" for one in unsolved),
            *([f"These fields could not be changed: {stuck}"] if observations.unchangeable else []),
        ),
    )
    text = render_spec(draft)
    spec = parse_spec(text, observations.model_type)
    return ComposedSpec(text, spec, unsolved, exact_for_given_config=False), {
        _module_of_parameter(name) for name in shared.as_given
    }


def _module_of_parameter(name: str) -> str:
    """Returns the module of a parameter."""
    return name.rpartition(".")[0]


def parse_spec(text: str, model_type: str) -> ArchitectureSpec:
    """Parses the text of an architecture file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{model_type}.toml"
        file.write_text(text, encoding="utf-8")
        return read_spec(file)
