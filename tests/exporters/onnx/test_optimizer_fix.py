"""onnxscript's optimizer keeps additions of almost zero and multiplications by almost one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from equipoise.exporters.target import ExportableModel, find_target

pytestmark = pytest.mark.transformers


class Norm(torch.nn.Module):  # type: ignore[misc]
    """A norm with a small epsilon and a scale of almost one."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": torch.rsqrt(x + 1e-8), "z": x * 1.000004}


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
def test_small_constants_are_kept(tmp_path: Path) -> None:
    """Without its epsilon the first output would be larger by a factor of the square root of two."""
    example = torch.full((2, 3), 1e-8)
    norm = Norm().eval()
    source = ExportableModel(norm, norm, {"x": example}, {"x": {0: "batch"}}, ("y", "z"))
    with torch.no_grad():
        find_target("onnx").make("dynamo", source, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    y, z = session.run(None, {"x": np.full((3, 3), 1e-8, np.float32)})
    np.testing.assert_allclose(y, np.full((3, 3), 2e-8**-0.5), rtol=1e-6)
    np.testing.assert_allclose(z, np.full((3, 3), 1.000004e-8), rtol=3e-7)
