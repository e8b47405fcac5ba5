"""A minimal repro of a divergence: one module, its weights, its inputs, and a script that shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equipoise.convert import open_checkpoint
from equipoise.convert.core.errors import EquipoiseError
from equipoise.validators.divergence import Passes
from equipoise.validators.remote import Module
from equipoise.validators.result import BackendResult, Divergence
from equipoise.validators.runner import Array, Arrays
from equipoise.validators.setup import Setup

SCRIPT = '''\
"""{kind} {module}: what {label} gave for these inputs, and what PyTorch gives.

Needs torch, transformers and safetensors. Beside it: the module's weights and inputs, the truth in float64,
the reference, and what the backend gave.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, {class_name}

HERE = Path(__file__).parent
config = AutoConfig.from_pretrained(HERE, attn_implementation="eager")
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
for name, value in (("this script", first), ("reference", outputs["reference"]), ("{label}", outputs["found"])):
    if value.shape == truth.shape:
        print(f"{{name:>24}}: off the truth by {{(value.double() - truth).abs().max():.3e}}")
    else:
        print(f"{{name:>24}}: shape {{tuple(value.shape)}}, the truth has {{tuple(truth.shape)}}")
'''


def write(setup: Setup, result: BackendResult, passes: Passes, found: Divergence) -> Path:
    """Writes the folder and returns it; its name is made of backend, case and module."""
    from safetensors.numpy import save_file

    module = "" if found.module.startswith("(") else found.module
    name = "-".join([result.label, found.case, module or "model"])
    folder = Path(setup.request.repro or ".") / "".join(c if c.isalnum() else "-" for c in name)
    folder.mkdir(parents=True, exist_ok=True)
    path = module.partition("#")[0]
    save_file(_weights(setup, path), folder / "weights.safetensors")
    reference = _module(passes.reference, module)
    save_file(_dense(reference.inputs), folder / "inputs.safetensors")
    outputs = {
        "truth": _first(_module(passes.truth, module)),
        "reference": _first(reference),
        "found": _first(_module(passes.found, found.there)),
    }
    save_file(_dense(outputs), folder / "outputs.safetensors")
    (folder / "config.json").write_text(json.dumps(setup.model.config, indent=2) + "\n")
    (folder / "repro.py").write_text(
        SCRIPT.format(
            kind=found.kind,
            module=found.module,
            label=result.label,
            class_name=setup.class_name,
            submodule=f'.get_submodule("{path}")' if path else "",
        )
    )
    return folder


def _weights(setup: Setup, path: str) -> Arrays:
    """The weights in and beneath a module, by their names within it."""
    prefix = f"{path}." if path else ""
    found = {}
    try:
        checkpoint = open_checkpoint(setup.pytorch.path, layout="pytorch")
    except EquipoiseError:
        return {}
    for name, ref in checkpoint.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = np.asarray(ref.read())
    return found


def _module(modules: Sequence[Module], path: str) -> Module:
    return [module for module in modules if module.path == path][-1]


def _first(module: Module) -> Array:
    return next(iter(module.outputs.values()))


def _dense(arrays: Arrays) -> Arrays:
    return {name: np.array(value, order="C") for name, value in arrays.items()}
