"""Every sentence of docs/validate.md names the tests that hold it: a new or changed one fails until somebody names its test.

``doc_validate.toml`` has the sentences in the order of the page. A row of a table and an item of a list are sentences too; a command
is one for each line, and a block of code is known by its language, since other tests run what is in it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "validate.md"
SENTENCES: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("doc_validate.toml").read_text(encoding="utf-8")
)
NAMES = sorted({name for part in SENTENCES.values() for names in part.values() for name in names})
END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\"'(\[])")
ITEM = re.compile(r"^(?:- |\d+\. )", re.MULTILINE)
FENCE = re.compile(r"^```(\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yields the sentences of a page, each with the heading above it.

    >>> list(sentences("# A\\n\\nOne. Two\\nhas two lines.\\n\\n| x | y |\\n| --- | --- |\\n| 1 | 2 |\\n"))
    [('A', 'One.'), ('A', 'Two has two lines.'), ('A', '1 | 2')]
    """
    heading = ""
    for block in re.split(r"\n\s*\n", FENCE.sub(r"```\1", text)):
        lines = block.strip("\n").split("\n")
        if lines[0].startswith("#"):
            heading, *lines = lines[0].lstrip("# "), *lines[1:]
        for paragraph in paragraphs(lines):
            for one in END_OF_SENTENCE.split(" ".join(paragraph.split())):
                yield heading, one


def paragraphs(lines: list[str]) -> list[str]:
    """Returns what belongs together in a block: the rows of a table, commands, items of a list, or the block itself."""
    if not lines:
        return []
    if lines[0].startswith("| "):
        return [line.strip("| ") for line in lines[2:]]
    if lines[0].startswith("    "):
        return lines
    return [part for part in ITEM.split("\n".join(lines)) if part]


@cache
def functions(file: str) -> frozenset[str]:
    """Returns the names of the test functions of a file."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    found = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def test_the_page_has_these_sentences() -> None:
    expected = [(heading, one) for heading, part in SENTENCES.items() for one in part]
    found = list(sentences(PAGE.read_text(encoding="utf-8")))
    new = [one for heading, one in found if one not in SENTENCES.get(heading, {})]
    assert new == [], "name the tests that hold these sentences in doc_validate.toml"
    assert found == expected


def test_every_sentence_has_a_test() -> None:
    assert [one for part in SENTENCES.values() for one, names in part.items() if not names] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert function in functions(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two (three).", ["One.", "Two (three)."]),
        ("A file `a.py` is one.\nIt has\ntwo lines: `x`.", ["A file `a.py` is one.", "It has two lines: `x`."]),
        ("- one\n  more\n- two. `Three`", ["one more", "two.", "`Three`"]),
        ("1. one\n2. two", ["one", "two"]),
        ("    command a\n    command b", ["command a", "command b"]),
        ("```python\nx = 1. Or\n\ny = 2\n```\nText.", ["```python Text."]),
        ("```json\n{}\n```\n\nText.", ["```json", "Text."]),
    ],
)  # fmt: skip
def test_how_a_page_is_split(text: str, expected: list[str]) -> None:
    assert list(sentences(f"## H\n\n{text}\n")) == [("H", one) for one in expected]
