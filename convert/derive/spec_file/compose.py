"""The file of a type out of what was seen of it, held to the given config while it is written."""

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


@dataclass(frozen=True)
class Observations:
    """What was seen of a type.

    Attributes:
        model_type: Its name.
        variants: Its classes under some configs, the base first.
        placed: The same with all names under the prefix.
        given: Which of them is the given config.
        prefix: What names of base classes lack.
        bases: The base classes.
        paths: All names as templates.
        defaults: What config files may lack, by dotted name.
        stuck: Fields of the config that could not be changed.
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
    """A file: its text, what it is read as, what it says of the given config alone, and whether it is exact under that."""

    text: str
    spec: ArchitectureSpec
    unsolved: Sequence[str]
    exact_for_given_config: bool


def compose_spec(looks: Observations, search: ExpressionSearch) -> ComposedSpec:
    """Writes the file. Modules that would be wrong under the given config itself are written as it has them."""
    as_given: set[str] = set()
    while True:
        found, more = _compose_once(looks, search, as_given)
        otherwise = mismatches(found.spec, looks.variants[looks.given_variant])
        for cls, name in otherwise:
            full = f"{looks.prefix}.{name}" if cls in looks.bases else name
            place = parameter_template(full, (looks.given_variant, cls), looks.paths)
            if place is not None:
                more |= {place.template, _module_of_parameter(place.template)}
        if more <= as_given:
            return replace(found, exact_for_given_config=not otherwise)
        as_given |= more


def _compose_once(
    looks: Observations, search: ExpressionSearch, as_given: set[str]
) -> tuple[ComposedSpec, set[str]]:
    """The file, and the modules that have to be written one by one because their ties are."""
    paths, placed = looks.paths, looks.prefixed_variants
    found = find_lines(placed, paths, search, looks.given_variant, as_given)
    shared = find_ties(placed, paths, search, looks.given_variant, as_given)
    counts = [f"the count of {one}" for one in paths.unsolved]
    unsolved = [*counts, *found.unsolved, *shared.unsolved]
    stuck = join_limited(looks.unchangeable, 40)
    draft = SpecDraft(
        looks.model_type,
        looks.prefix,
        looks.bases,
        found.of,
        paths.counts,
        shared.of,
        looks.defaults,
        (
            f"Derived from PyTorch's model under {len(looks.variants)} configs; to be reviewed.",
            *(f"As the given config has it, no expression was found: {one}" for one in unsolved),
            *([f"These fields could not be changed: {stuck}"] if looks.unchangeable else []),
        ),
    )
    text = render_spec(draft)
    spec = parse_spec(text, looks.model_type)
    return ComposedSpec(text, spec, unsolved, exact_for_given_config=False), {
        _module_of_parameter(name) for name in shared.as_given
    }


def _module_of_parameter(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0]


def parse_spec(text: str, model_type: str) -> ArchitectureSpec:
    """A file's text as a spec."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{model_type}.toml"
        file.write_text(text, encoding="utf-8")
        return read_spec(file)
