"""The readers of PyTorch's archives and of TensorFlow Lite find what the frameworks load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.convert.core.errors import ContainerError, UnsafePickleError
from equipoise.validators.audit.readers import read_program

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about itself


def module() -> Any:
    """Returns a module with a tied weight, a buffer, a strided parameter and a constant in its code."""

    class Inner(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(6, 6)
            self.tied = torch.nn.Linear(6, 6, bias=False)
            self.tied.weight = self.dense.weight
            self.turned = torch.nn.Parameter(torch.randn(5, 6).t())
            self.register_buffer("positions", torch.arange(40).reshape(1, 40))
            self.register_buffer("hidden", torch.randn(30), persistent=False)

        def forward(self, x: Any) -> Any:
            table = torch.arange(24.0).reshape(6, 4)
            one = self.tied(self.dense(x)) @ self.turned
            return one.sum() + (x @ table).sum() + self.positions.sum() + self.hidden.sum()

    torch.manual_seed(0)
    return Inner().eval()


def arrays(backend: str, path: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {one.name: one.ref.read() for one in read_program(backend, path).weights}


def test_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.trace(module(), torch.randn(2, 6)).save(str(path))
    loaded = torch.jit.load(str(path))
    wanted = {**dict(loaded.named_buffers()), **loaded.state_dict()}
    found = arrays("torchscript", path)
    assert wanted.keys() <= found.keys()
    for name, value in wanted.items():
        assert found[name].tobytes() == value.contiguous().numpy().tobytes(), name


def test_torch_export(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(module(), (torch.randn(2, 6),)), str(path))
    loaded = torch.export.load(str(path))
    found = arrays("torch-export", path)
    for name, value in loaded.state_dict.items():
        assert found[name].tobytes() == value.contiguous().detach().numpy().tobytes(), name
    assert found["constants.hidden"].tobytes() == loaded.constants["hidden"].numpy().tobytes()


def test_no_code_of_a_program_is_run(tmp_path: Path) -> None:
    """A class of the program may be named; a global of Python may not."""
    import pickle
    import zipfile

    path = tmp_path / "model.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.randn(1, 2)).save(str(path))
    hostile = tmp_path / "hostile.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            is_pickle = name.endswith("/data.pkl")
            new.writestr(name, pickle.dumps(print, 2) if is_pickle else old.read(name))
    with pytest.raises(UnsafePickleError, match="builtin"):
        arrays("torchscript", hostile)


def test_a_checkpoint_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(ContainerError, match=r"constants\.pkl"):
        arrays("torchscript", path)
    with pytest.raises(ContainerError, match="weights_config"):
        arrays("torch-export", path)


def test_damaged_flatbuffers(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    for content in (b"", b"\x08\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + bytes(40), b"something else"):
        path.write_bytes(content)
        with pytest.raises((ContainerError, Exception), match=r"flatbuffer|empty|not a TensorFlow"):
            arrays("tflite", path)
