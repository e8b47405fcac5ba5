"""The FX clean-up before ``torch.onnx.export`` removes what the translation would get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from equipoise.exporters.target import ExportableModel, find_target

pytestmark = pytest.mark.transformers


class Squeezed(torch.nn.Module):  # type: ignore[misc]
    """Squeezes dynamic axes within the graph and at its end, and one axis of size 1."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        within = (x.squeeze(1) + 1).squeeze((0, 2))
        return {"y": within * 2, "z": x.squeeze(1), "w": x.squeeze(2)}


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
def test_dynamic_axes_are_not_squeezed(tmp_path: Path) -> None:
    """PyTorch keeps an axis whose size is not 1 in ``squeeze``; ONNX raises an error."""
    model = Squeezed().eval()
    source = ExportableModel(
        model, model, {"x": sample(2, 5)}, {"x": {0: "batch", 1: "length"}}, ("y", "z", "w")
    )
    find_target("onnx").make("dynamo", source, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    x = sample(3, 7)
    expected: dict[str, Any] = model(x)
    for found, value in zip(session.run(None, {"x": x.numpy()}), expected.values(), strict=True):
        assert found.shape == tuple(value.shape)
        np.testing.assert_allclose(found, value.numpy(), rtol=1e-6)


def sample(rows: int, length: int) -> Any:
    return torch.randn(rows, length, 1, generator=torch.Generator().manual_seed(0))
