"""The labels of a classifier, from its config as transformers builds it."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.convert.core.framework_types import JsonValue

DEFAULT_NUM_LABELS = 2
"""Number of labels where a config says nothing; ``save_pretrained`` leaves it out for that reason."""


def config_labels(config: Mapping[str, JsonValue]) -> dict[int, str]:
    """Returns the name of each class, in the order of their numbers.

    ``id2label`` names them; its keys are texts in JSON, and their order in the file means nothing. Without it there are
    ``num_labels`` of them (2), named by their number. Where the two contradict each other, ``id2label`` holds.

    >>> config_labels({"id2label": {"0": "a", "10": "c", "2": "b"}})
    {0: 'a', 2: 'b', 10: 'c'}
    >>> config_labels({"num_labels": 3})
    {0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2'}
    """
    names = config.get("id2label")
    if isinstance(names, Mapping):
        return dict(sorted((int(index), str(name)) for index, name in names.items()))
    number = config.get("num_labels")
    count = DEFAULT_NUM_LABELS if number is None else int(number)
    return {index: f"LABEL_{index}" for index in range(count)}
