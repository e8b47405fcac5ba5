"""docs/architectures.md is what the findings make, and the findings are of all classes there are."""

from __future__ import annotations

import architectures_page as architectures

from cases import cases  # isort: skip - tests are no package


def test_page_is_made_of_the_findings() -> None:
    assert architectures.PAGE.read_text(encoding="utf-8") == architectures.page(
        architectures.read()
    )


def test_every_case_was_tried() -> None:
    found = {
        (row["type"], row["class"], row["config"], row["layout"]) for row in architectures.read()
    }
    wanted = {
        (case.spec.model_type, case.cls.name, case.config, layout)
        for case in cases()
        for layout in ("tensorflow", "flax")
        if layout in case.cls.names
    }
    assert found == wanted
