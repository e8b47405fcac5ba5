"""Plants faults into repositories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def break_repository(folder: Path, fault: str) -> None:
    """Plants a fault: the repository cannot be converted to another framework."""
    weights, config = folder / WEIGHTS, folder / "config.json"
    if fault == "no config":
        config.unlink()
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif fault == "unknown type":
        values = json.loads(config.read_text())
        changed = {**values, "model_type": "nobody-knows", "architectures": ["NobodyModel"]}
        config.write_text(json.dumps(changed))
    elif fault == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch attacked'\ntR.")
    elif fault == "no weights":
        weights.unlink()
    elif fault == "quantized":
        tensors = load_file(weights)
        name = next(one for one in tensors if one.endswith("query.weight"))
        shape = tensors.pop(name).shape
        for end, dtype in (("qweight", np.int32), ("qzeros", np.int32), ("scales", np.float16)):
            tensors[name.replace("weight", end)] = np.zeros(shape, dtype)
        save_file(tensors, weights)
    else:
        raise ValueError(fault)
