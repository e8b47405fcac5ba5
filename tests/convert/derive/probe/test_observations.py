"""The smallest set of classes that shows the effect of a change."""

from __future__ import annotations

from equipoise.convert.derive.probe.observations import (
    ClassObservation,
    ObservedModule,
    any_differ,
    smallest_class_cover,
)


def seen(**widths: int) -> ClassObservation:
    return ClassObservation(
        {
            path.replace("_", "."): ObservedModule("norm", (("width", n),))
            for path, n in widths.items()
        },
        {},
        {},
    )


def test_the_class_with_the_body_alone_covers_all_that_share_it() -> None:
    base = {"Model": seen(norm=4), "Head": seen(body_norm=4, head=7), "Other": seen(body_norm=4)}
    wider = {"Model": seen(norm=8), "Head": seen(body_norm=8, head=7), "Other": seen(body_norm=8)}
    assert smallest_class_cover(wider, base) == {"Model"}
    both = {"Model": seen(norm=8), "Head": seen(body_norm=8, head=9), "Other": seen(body_norm=8)}
    assert smallest_class_cover(both, base) == {"Head"}
    assert smallest_class_cover(base, base) == frozenset()


def test_only_classes_that_both_have_are_compared() -> None:
    assert not any_differ({"Model": seen(norm=4)}, {"Model": seen(norm=4), "Head": seen(head=7)})
    assert any_differ({"Model": seen(norm=4)}, {"Model": seen(norm=8)})
