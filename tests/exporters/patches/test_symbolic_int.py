"""``int`` of a symbolic size stays symbolic during tracing; otherwise it is Python's ``int``."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from equipoise.exporters.patches.symbolic_builtins import _int

pytestmark = pytest.mark.transformers


def test_values_are_converted_as_by_int() -> None:
    assert _int(2.9) == 2
    assert _int("17") == 17
    assert _int("ff", 16) == 255
    assert _int() == 0
    assert _int(torch.tensor(5)) == 5


def test_isinstance_and_issubclass() -> None:
    assert isinstance(3, _int)
    assert not isinstance("3", _int)
    assert issubclass(bool, _int)


def test_sizes_stay_symbolic() -> None:
    class Wider(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            size = (_int(2 * x.shape[2]), _int(x.shape[3] // 2))
            return torch.nn.functional.interpolate(x, size=size)

    auto = torch.export.Dim.AUTO
    program = torch.export.export(
        Wider(), (torch.ones(1, 1, 4, 6),), dynamic_shapes=({2: auto, 3: auto},), strict=False
    )
    assert program.module()(torch.ones(1, 1, 5, 9)).shape == (1, 1, 10, 4)
