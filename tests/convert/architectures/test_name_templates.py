import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.convert.architectures.name_templates import format_name, index_names, match_name
from equipoise.convert.core.errors import SpecError


def test_fields_are_in_order_and_unique() -> None:
    assert index_names("a.{x}.b.{y}.{x}") == ("x", "y")


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("layer.{i}.w", "layer.11.w", {"i": 11}),
        ("layer.{i}.w", "layer.0.w", {"i": 0}),
        ("layer.{i}.w", "layer.01.w", None),
        ("layer.{i}.w", "layer..w", None),
        ("layer.{i}.w", "layer.1.w.x", None),
        ("layer.{i}.w", "layer.1x.w", None),
        ("layer.{i}.{i}", "layer.3.3", {"i": 3}),
        ("layer.{i}.{i}", "layer.3.4", None),
        ("plain", "plain", {}),
        ("layer.{i}", "layer.²", None),
        ("block_{i:03}.w", "block_011.w", {"i": 11}),
        ("block_{i:03}.w", "block_1234.w", {"i": 1234}),
        ("block_{i:03}.w", "block_11.w", None),
        ("block_{i:03}.w", "block_0011.w", None),
    ],
)
def test_match(template: str, name: str, expected: dict[str, int] | None) -> None:
    assert match_name(template, name) == expected


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_match_undoes_expand(first: int, second: int) -> None:
    template = "encoder.stages.{a}.layers_._{b}.weight"
    indices = {"a": first, "b": second}
    assert match_name(template, format_name(template, indices)) == indices


def test_a_field_is_a_name() -> None:
    with pytest.raises(SpecError):
        index_names("layer.{0}")
