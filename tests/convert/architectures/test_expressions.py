import pytest

from equipoise.convert.architectures.expressions import evaluate
from equipoise.convert.core.errors import SpecError

VALUES = {"a": 7, "b": [3, 5], "text.size": 11, "kind": "gated-gelu", "off": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", 7),
        ("a + 2 * 3 - 1", 12),
        ("a // 2", 3),
        ("a / 2", 3.5),
        ("int(a * 0.5)", 3),
        ("round(a / 4)", 2),
        ("a % 4", 3),
        ("-a", -7),
        ("b[1]", 5),
        ("text.size", 11),
        ("[a, b[0]]", [7, 3]),
        ("len(b)", 2),
        ("max(a, 9)", 9),
        ("sum(b)", 8),
        ("'gated-' in kind", True),
        ("kind == 'relu'", False),
        ("not off", True),
        ("off or a", 7),
        ("off and a", False),
        ("a and b", [3, 5]),
        ("a if off else b[0]", 3),
        ("a > 6", True),
        ("a not in [1, 2]", True),
        ("b[1:]", [5]),
        ("b[:len(b) - 1]", [3]),
        ("[2 * one + a for one in b]", [13, 17]),
        ("[[one * other for other in b] for one in b]", [[9, 15], [15, 25]]),
        ("[int(one) for one in split('3_11_1', '_')]", [3, 11, 1]),
    ],
)
def test_values(text: str, expected: object) -> None:
    assert evaluate(text, VALUES.__getitem__) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a ** 99",
        "__import__('os')",
        "(lambda: 1)()",
        "a.b.__class__()",
        "{x for x in b}",
        "[x for x in b if x]",
        "[x for x in b for y in b]",
        "[x for x.y in b]",
        "b[::2]",
        "open('x')",
        "f'{a}'",
        "1 < a < 9",
        "a +",
        "max(a, key=b)",
    ],
)
def test_nothing_else_is_allowed(text: str) -> None:
    with pytest.raises(SpecError):
        evaluate(text, VALUES.__getitem__)
