"""Writes a minimal repro of a divergence: one module, its weights, its inputs, and a script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.files.output_folder import replace_folder
from equipoise.convert.files.ownership import hash_entries
from equipoise.validators.core.types import Array, Arrays, CapturedModule, CapturedPasses
from equipoise.validators.judgement.results import Divergence

INDEX_NAME = "repro.json"

SCRIPT_TEMPLATE = '''\
"""{kind} {module}: what {label} gave for these inputs, and what PyTorch gives.

Needs torch, transformers and safetensors. Next to it: the module's weights and inputs, the truth in float64,
the reference, and what the backend gave.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, {class_name}

HERE = Path(__file__).parent
config = AutoConfig.from_pretrained(HERE, attn_implementation="eager", trust_remote_code=False)
module = {class_name}(config).eval(){submodule}
missing, unexpected = module.load_state_dict(load_file(HERE / "weights.safetensors"), strict=False)
print("weights missing:", missing or "none")

inputs = load_file(HERE / "inputs.safetensors")
args = [inputs[str(i)] for i in range(len(inputs)) if str(i) in inputs]
kwargs = {{name: value for name, value in inputs.items() if not name.isdigit()}}
outputs = load_file(HERE / "outputs.safetensors")
with torch.no_grad():
    result = module(*args, **kwargs)
first = result[0] if isinstance(result, (tuple, list)) else result
first = next(iter(first.values())) if hasattr(first, "values") and not torch.is_tensor(first) else first

truth = outputs["truth"].double()
sides = (("this script", first), ("reference", outputs["reference"]), ("{label}", outputs.get("found")))
for name, value in sides:
    if value is None:
        print(f"{{name:>24}}: it has no such module")
    elif value.shape == truth.shape:
        print(f"{{name:>24}}: off the truth by {{(value.double() - truth).abs().max():.3e}}")
    else:
        print(f"{{name:>24}}: shape {{tuple(value.shape)}}, the truth has {{tuple(truth.shape)}}")
'''


def write_repro(
    parent: Path,
    label: str,
    passes: CapturedPasses,
    divergence: Divergence,
    *,
    checkpoint: Path,
    class_name: str,
    config: Mapping[str, Any],
) -> Path:
    """Writes a folder with one module, its weights, its inputs and a script; returns the folder. Replaces an older one.

    Args:
        parent: Where the folder goes; its name consists of backend, case and module.
        label: Name of the backend in reports.
        passes: The captured values.
        divergence: The first module beyond noise.
        checkpoint: The checkpoint that PyTorch loads.
        class_name: PyTorch's class.
        config: The model's config.

    Raises:
        OutputError: The folder cannot be written, or holds what Equipoise did not make.
    """
    from safetensors.numpy import save_file

    module = "" if divergence.module.startswith("(") else divergence.module
    name = "-".join([label, divergence.case, module or "model"])
    folder = parent / "".join(c if c.isalnum() else "-" for c in name)
    path = module.partition("#")[0]
    reference = _find_module(passes.reference.modules, module)
    outputs = {
        "truth": _first_output(_find_module(passes.truth.modules, module)),
        "reference": _first_output(reference),
    }
    found = [one for one in passes.found.modules if one.path == divergence.there]
    if found:
        outputs["found"] = _first_output(found[-1])
    script = SCRIPT_TEMPLATE.format(
        kind=divergence.kind,
        module=divergence.module,
        label=label,
        class_name=class_name,
        submodule=f'.get_submodule("{path}")' if path else "",
    )
    with replace_folder(folder) as new:
        save_file(_module_weights(checkpoint, path), new / "weights.safetensors")
        save_file(_contiguous(reference.inputs), new / "inputs.safetensors")
        save_file(_contiguous(outputs), new / "outputs.safetensors")
        (new / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (new / "repro.py").write_text(script)
        index = {"module": divergence.module, "case": divergence.case, "files": hash_entries(new)}
        (new / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    return folder


def _module_weights(checkpoint: Path, path: str) -> Arrays:
    """Returns the weights in and below a module, by their names within it."""
    prefix = f"{path}." if path else ""
    try:
        tensors = open_checkpoint(checkpoint, layout="pytorch")
    except EquipoiseError:
        return {}
    return {
        name.removeprefix(prefix): np.asarray(ref.read())
        for name, ref in tensors.items()
        if name.startswith(prefix)
    }


def _find_module(modules: Sequence[CapturedModule], path: str) -> CapturedModule:
    return [module for module in modules if module.path == path][-1]


def _first_output(module: CapturedModule) -> Array:
    return next(iter(module.outputs.values()))


def _contiguous(arrays: Arrays) -> Arrays:
    return {name: np.array(value, order="C") for name, value in arrays.items()}
