"""docs/architectures.md matches the stored findings, and each finding belongs to an existing case."""

from __future__ import annotations

import architectures_page as architectures


def test_page_matches_the_findings() -> None:
    assert architectures.PAGE.read_text(encoding="utf-8") == architectures.page(
        architectures.read()
    )


def test_findings_belong_to_existing_cases() -> None:
    found = [architectures.key(row) for row in architectures.read()]
    assert len(found) == len(set(found))
    assert set(found) <= architectures.expected_keys()
