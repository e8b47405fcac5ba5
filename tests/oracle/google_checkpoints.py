"""Checkpoints of research repositories: names and shapes of their variables, as the code of each repository makes them.

Written by hand from what each repository's model code creates under its scopes, and from no file of Equipoise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import google_berts as berts
import google_others as others
import google_transformers as transformers
from google_shapes import GoogleCase

__all__ = ["GoogleCase", "all_cases", "cases"]


def cases() -> Iterator[GoogleCase]:
    """Yields the checkpoints that loaders of 4.57.6 judge."""
    yield from chain(
        berts.bert_cases(),
        berts.albert_cases(),
        berts.electra_cases(),
        berts.mobilebert_cases(),
        berts.bert_kin_cases(),
        berts.tapas_cases(),
        others.convbert_cases(),
        transformers.funnel_cases(),
        transformers.xlnet_cases(),
        transformers.transfo_xl_cases(),
        others.gpt_cases(),
        transformers.t5_cases(),
        others.canine_cases(),
        others.imagegpt_cases(),
        others.mobilenet_cases(),
        others.bert_generation_cases(),
    )


def all_cases() -> Iterator[GoogleCase]:
    """Yields these and the one that outputs judge."""
    yield from cases()
    yield transformers.xlnet_squad_case()
