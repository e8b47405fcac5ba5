"""Lowered models agree with PyTorch at other sizes than the traced ones, eagerly and as an exported program."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import assert_same, export_callable, graph_of, run_eagerly, weights_of

pytestmark = pytest.mark.transformers


def transformer() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(11, 8)
            self.joint = nn.Linear(8, 24)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.words.weight
            self.register_buffer("scale", torch.tensor([0.5, 2.0]), persistent=False)

        def forward(self, ids: Any, mask: Any) -> dict[str, Any]:
            batch, length = ids.shape
            x = self.words(ids) + torch.arange(length)[None, :, None] / length
            with torch.no_grad():
                heads = self.joint(self.norm(x)).view(batch, length, 3, 2, 4)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(-1, -2) * self.scale[:, None, None]
            scores = scores.masked_fill(mask[:, None, None] == 0, float("-inf"))
            seen = torch.ones(length, length, dtype=torch.bool).tril()
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, 8)
            logits = self.head(nn.functional.gelu(mixed + x))
            return {"logits": logits, "best": logits.argmax(-1), "last": logits[:, -1]}

    torch.manual_seed(0)
    return Block()


def of_words(batch: int, length: int) -> dict[str, Any]:
    import torch

    torch.manual_seed(length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, 1:2] = 0
    return {"ids": torch.randint(0, 11, (batch, length)), "mask": mask}


def test_a_transformer_at_other_sizes() -> None:
    from torch.export import Dim

    model = transformer()
    free = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    graph = graph_of(model, of_words(2, 5), {"ids": free, "mask": free})
    assert_same(run_eagerly(graph, of_words(2, 5)), model(**of_words(2, 5)))
    axes = {name: {0: "batch", 1: "length"} for name in graph.names}
    program = export_callable(graph, axes)
    for batch, length in ((3, 7), (2, 4)):
        inputs = of_words(batch, length)
        assert_same(program(inputs), model(**inputs))


def test_a_tied_weight_is_stored_once() -> None:
    graph = graph_of(transformer(), of_words(2, 5))
    names = set(weights_of(graph))
    assert len(names & {"words.weight", "head.weight"}) == 1
    assert "scale" not in names


def test_images_at_other_sizes() -> None:
    import torch
    from torch import nn
    from torch.export import Dim

    class ImageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.groups = nn.GroupNorm(2, 6)
            self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)

        def forward(self, pixels: Any) -> dict[str, Any]:
            x = nn.functional.max_pool2d(self.norm(self.first(pixels)).relu(), 2)
            up = self.up(self.groups(x))
            wide = nn.functional.interpolate(up, size=pixels.shape[2:], mode="bilinear")
            near = nn.functional.interpolate(up, scale_factor=2.0)
            return {"wide": wide, "near": near, "mean": nn.functional.avg_pool2d(up, 2)}

    torch.manual_seed(0)
    model = ImageModel().eval()
    model.norm.running_var.uniform_(0.5, 2)
    free = {0: Dim.DYNAMIC, 2: Dim("rows", min=1, max=40) * 8, 3: Dim("columns", min=1, max=40) * 8}
    graph = graph_of(model, {"pixels": torch.randn(2, 3, 16, 24)}, {"pixels": free})
    with torch.no_grad():
        pixels = torch.randn(3, 3, 24, 16)
        assert_same(run_eagerly(graph, {"pixels": pixels}), model(pixels))
        program = export_callable(graph, {"pixels": {0: "batch", 2: "height", 3: "width"}})
        for size in ((2, 3, 16, 16), (3, 3, 24, 16)):
            pixels = torch.randn(size)
            assert_same(program({"pixels": pixels}), model(pixels))


def test_arithmetic_of_sizes() -> None:
    import torch
    from torch.export import Dim

    class Sizes(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> dict[str, Any]:
            rows, columns = x.shape[0], y.shape[0]
            return {
                "sum": x.new_zeros(rows + columns) + rows * 2,
                "half": x.new_ones(rows // 2 + 1),
                "wide": x.new_ones(torch.sym_max(rows, columns), torch.sym_min(rows, columns)),
                "mean": x.sum() / (rows * columns),
                "tail": torch.cat([x, y])[-columns:],
                "ends": x[-2:] + y[-1],
                "up": x.new_zeros(-(-rows // 2)) + rows % 3,
                "counted": torch.arange(1, rows + 1, 2),
                "flat": x[:, None].expand(-1, columns).reshape(-1),
                "chunks": torch.nn.functional.pad(x, (0, (8 - rows % 8) % 8)).reshape(-1, 8).sum(1),
            }

    model = Sizes()
    first = {"x": torch.randn(4), "y": torch.randn(6)}
    graph = graph_of(model, first, {"x": {0: Dim.DYNAMIC}, "y": {0: Dim.DYNAMIC}})
    program = export_callable(graph, {"x": {0: "rows"}, "y": {0: "columns"}})
    for left, right in ((4, 6), (9, 5), (3, 3)):
        inputs = {"x": torch.randn(left), "y": torch.randn(right)}
        assert_same(program(inputs), model(**inputs))
    assert_same(run_eagerly(graph, inputs), model(**inputs))


def test_half_precision_outputs_stay_half_precision() -> None:
    import numpy as np
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU()).to(torch.bfloat16)

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any) -> dict[str, Any]:
            return {"y": self.inner(x)}

    x = torch.randn(3, 4).bfloat16()
    found = np.asarray(run_eagerly(graph_of(Named(), {"x": x}), {"x": x})["y"])
    assert found.dtype.name == "bfloat16"
    wanted = model(x).detach().float().numpy()
    np.testing.assert_allclose(found.astype(np.float32), wanted, rtol=2**-7, atol=2**-8)


def test_waveforms_at_other_sizes() -> None:
    """Two strided paths are added, and a Fourier transform runs over a symbolic axis."""
    import torch
    from torch import nn
    from torch.export import Dim

    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Conv1d(1, 3, 2, stride=2)
            self.wide = nn.Conv1d(1, 3, 4, stride=2, padding=1)

        def forward(self, wave: Any) -> dict[str, Any]:
            spectrum = torch.fft.fft2(wave)
            return {
                "both": self.narrow(wave) + self.wide(wave),
                "spectrum": spectrum.real,
                "phase": torch.fft.rfft(wave, norm="ortho").imag,
                "back": torch.fft.ifft(spectrum, norm="forward").real,
            }

    torch.manual_seed(0)
    model = Wave()
    free = {0: Dim.DYNAMIC, 2: Dim("half", min=4, max=40) * 2}
    graph = graph_of(model, {"wave": torch.randn(2, 1, 12)}, {"wave": free})
    program = export_callable(graph, {"wave": {0: "batch", 2: "length"}})
    with torch.no_grad():
        for size in ((2, 1, 12), (3, 1, 26)):
            wave = torch.randn(size)
            assert_same(program({"wave": wave}), model(wave))
