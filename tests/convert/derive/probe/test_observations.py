"""Which classes show what a change does."""

from __future__ import annotations

from equipoise.convert.derive.probe.observations import Module, Seen, cover, differ


def seen(**widths: int) -> Seen:
    return Seen(
        {path.replace("_", "."): Module("norm", (("width", n),)) for path, n in widths.items()},
        {},
        {},
    )


def test_the_class_with_the_body_alone_stands_for_all_that_share_it() -> None:
    base = {"Model": seen(norm=4), "Head": seen(body_norm=4, head=7), "Other": seen(body_norm=4)}
    wider = {"Model": seen(norm=8), "Head": seen(body_norm=8, head=7), "Other": seen(body_norm=8)}
    assert cover(wider, base) == {"Model"}
    both = {"Model": seen(norm=8), "Head": seen(body_norm=8, head=9), "Other": seen(body_norm=8)}
    assert cover(both, base) == {"Head"}
    assert cover(base, base) == frozenset()


def test_only_classes_that_both_have_are_compared() -> None:
    assert not differ({"Model": seen(norm=4)}, {"Model": seen(norm=4), "Head": seen(head=7)})
    assert differ({"Model": seen(norm=4)}, {"Model": seen(norm=8)})
