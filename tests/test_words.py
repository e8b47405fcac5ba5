"""Names and texts of the product use the words of the field: none of the private words of earlier versions comes back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("convert", "exporters", "validators", "fleet", "cli", "tools")
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def words(text: str) -> frozenset[str]:
    """Returns the words of a text."""
    return frozenset(text.split())


MODULES = words(
    """
    account accounts again alignment answers architectures around bars beams both_sides branches cached caching
    candidates depths divergence draws environment equal every_patch feed figures films following formats forms
    generating inputs inside judging kinds known lines loading logits looks loops machine making multiples onnx_files
    onnx_merge onnx_passes onnx_ready onnx_rules open_sizes pages places plain pythons ratio reads result running
    scanning seen setup sizes steps symbols terms torch_wide tracing unwritten vary workers
    """
)
"""Names that no module may have; ``conditions`` is left out, because ``derive.search.conditions`` uses it as architecture files do."""

CLASSES = words(
    """
    Account Beyond Branch Caching Callee Compared Counts Depth Distance Environment Export Exported Feed Followed Form
    Graph Harvest Inputs Inside Irregular Leaf Limit Line Lines Looks Lowered Made Making Measured Memory Module
    Multiple Node OutputFigures CaseFigures Pair Passes Place Plain Point Programs Ratio Reference Region Rows Same
    Sameness Search Seen Setup Sites Size Source Span Specs Stated Stepping View Weights Whole Workers Written
    """
)

FUNCTIONS = words(
    """
    account alike assert_known assert_usable boxes_of bounded callees captured checked choices chosen combined
    comparable compared composed cover depth described donut drop_unused exact experts fixed flattened floating
    form_of_artifact form_of_model forms_of found_in function_of graph_of graphs_of identities instances joined judge
    keep_padding known_of known_value larger least lengthened likeliest limit lines loaded longest look_inside lowered
    model_of named narrow no_way objection on_both_sides on_the_fly one_forward opened others overlap padding_of
    panoptic parted picture pin plain plain_case plus points prepare prepared processed programs_of promoted quotient
    ranked reason_of recorded reference_of refusals report_of resolved results same_draws samples_from seen semantic
    share signature_of simplest sizes_at smaller sound spans spell stacked stands streams task_of traced unneeded
    values_near wide with_every_patch with_sizes without_idle_squeezes writing writing_cases written wrong as_scan both
    """
)
"""Names that no function or method may have."""

CONSTANTS = words(
    """
    ABOUT AXES DEEP ENOUGH FEW FINE GOOD LARGE LONG MANY MOST NAME NEAR NEW NOTHING PAST PLAIN SHARES SOME WRITES
    """
)
"""Names that do not say what a constant limits or lists, and in which unit."""

EVERYWHERE = words(
    """
    amiss asked beside drawn film followed gone looked noted nought picture placed said setup spelled stated told unlike
    """
)
"""Names that nothing may have: participles, and words for which the field has another one."""

PHRASES = re.compile(
    r"\b(to note|eight bits|numbers of eight|truth values?|moved weights|nought|amiss|gives what|it is said|films?)\b",
    re.IGNORECASE,
)
SAMPLE_SENTENCES = frozenset({"I love this film, it is wonderful."})
"""Inputs of models, in which any word may occur."""


def banned_names(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yields line and name of everything in a module that has a banned name."""
    stem = Path(path).stem.lstrip("_")
    if stem in MODULES | EVERYWHERE:
        yield 1, stem
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            name, banned = node.name, CLASSES | EVERYWHERE
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name, banned = node.name, FUNCTIONS | EVERYWHERE
        elif isinstance(node, ast.arg):
            name, banned = node.arg, EVERYWHERE
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name, banned = node.id, CONSTANTS | EVERYWHERE
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name, banned = node.attr, EVERYWHERE
        elif isinstance(node, ast.alias) and node.asname:
            name, banned = node.asname, EVERYWHERE
        else:
            continue
        if name.lstrip("_") in banned:
            yield node.lineno, name


def banned_phrases(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and phrase of everything in docstrings and other strings of a module that uses private words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text not in SAMPLE_SENTENCES:
                for match in PHRASES.finditer(text):
                    yield node.lineno + text.count("\n", 0, match.start()), match[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_names(folder: str) -> None:
    found = [
        f"{path}:{line} {name}"
        for path in FILES
        if path.startswith(f"{folder}/")
        for line, name in banned_names(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_texts(folder: str) -> None:
    found = [
        f"{path}:{line} {phrase!r}"
        for path in FILES
        if path.startswith(f"{folder}/")
        for line, phrase in banned_phrases((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_banned_names_are_found() -> None:
    source = """FEW = 3
class _Setup:
    def plain(self, told): self.said = told
def f(x):
    for drawn in x: pass
import numpy as beside
"""
    found = set(banned_names("validators/again.py", source))
    assert found == {
        (1, "again"),
        (1, "FEW"),
        (2, "_Setup"),
        (3, "plain"),
        (3, "told"),
        (3, "said"),
        (5, "drawn"),
        (6, "beside"),
    }


def test_banned_phrases_are_found() -> None:
    source = '"""Gives what there is to note."""\nTEXT = f"{1} truth values"\nSAMPLE = "I love this film, it is wonderful."'
    assert set(banned_phrases(source)) == {
        (1, "Gives what"),
        (1, "to note"),
        (2, "truth values"),
    }
