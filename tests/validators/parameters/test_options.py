"""Values of options are of the kind that is declared, or refused by the option's name."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.convert.core.errors import InputError
from equipoise.validators.parameters.options import sort_options


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("exponential_decay_length_penalty", [2], "takes a list of two numbers"),
        ("exponential_decay_length_penalty", ["x", 2], "takes a list of two numbers"),
        ("eos_token_id", "x", "takes a token id or a list of one or more token ids"),
        ("eos_token_id", [], "takes a token id or a list of one or more token ids"),
        ("eos_token_id", [[1]], "takes a token id or a list of one or more token ids"),
        ("decoder_start_token_id", -1, "takes at least 0"),
        ("forced_bos_token_id", [-2], "takes at least 0"),
        ("forced_eos_token_id", [1.5], "takes a token id or a list of one or more token ids"),
        ("suppress_tokens", [[1, 2]], "takes a list of token ids"),
        ("suppress_tokens", 3, "takes a list of token ids"),
        ("bad_words_ids", [[-1]], "takes a list of lists of token ids"),
        ("bad_words_ids", [[]], "takes a list of lists of token ids"),
        ("sequence_bias", [[[1], True]], "takes a list of pairs"),
        ("sequence_bias", [[1, 2.0]], "takes a list of pairs"),
        ("sequence_bias", [], "takes an entry or more"),
        ("sequence_bias", [[[5], 3]], "a number with a point"),
        ("repetition_penalty", float("nan"), "takes a number"),
        ("seed", -1, "takes at least 0"),
        ("num_beams", None, "takes an integer"),
        ("early_stopping", None, "no such early_stopping"),
        ("no_repeat_ngram_size", -1, "takes at least 0"),
    ],
)
def test_value_of_another_kind(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sort_options("translation", {name: value})
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exponential_decay_length_penalty", [1.5, 2]),
        ("eos_token_id", [2, -1]),
        ("eos_token_id", None),
        ("forced_bos_token_id", [5]),
        ("suppress_tokens", []),
        ("bad_words_ids", [[5, 7], [9]]),
        ("sequence_bias", [[[5, 7], -2.5], [[9], 1.0]]),
        ("early_stopping", "never"),
    ],
)
def test_value_of_its_kind(name: str, value: Any) -> None:
    assert sort_options("translation", {name: value}).case == {name: value}


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 5, "generate_kwargs": {"max_new_tokens": 5}},
        {"generate_kwargs": {"max_new_tokens": 5}, "max_new_tokens": None},
    ],
)
def test_option_given_twice(options: dict[str, Any]) -> None:
    """Equal values too, and whichever comes first: pipeline() raises as well."""
    with pytest.raises(InputError, match="max_new_tokens is given twice"):
        sort_options("image-text-to-text", options)


def test_generate_kwargs_where_fields_are_options() -> None:
    with pytest.raises(InputError, match="give its fields by themselves"):
        sort_options("text-generation", {"generate_kwargs": {"max_new_tokens": 3}})
