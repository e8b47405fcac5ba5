"""TensorFlow classes of transformers that need a package which is not there are said to need it before they run."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from equipoise.validators.backends.classes.tensorflow import missing_package


@pytest.mark.parametrize(
    ("names", "package"),
    [
        ({}, ""),
        ({"is_tensorflow_probability_available": bool}, "tensorflow-probability"),
        ({"is_tensorflow_probability_available": bool, "tfp": object()}, ""),
    ],
)
def test_package_that_a_class_lacks(
    names: dict[str, object], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("modeling_tf_odd")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cls = type("TFOdd", (), {"__module__": module.__name__})
    assert missing_package(cls) == package
