"""docs/graph.md draws the graph as it is, and names a judge for each of its edges."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.conversion.routes import route_edges, to_mermaid

PAGE = (Path(__file__).parents[2] / "docs" / "graph.md").read_text(encoding="utf-8")


def test_the_drawing_is_what_routes_prints() -> None:
    (drawing,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL)
    assert drawing == to_mermaid()


def test_each_edge_has_a_judge() -> None:
    rows = re.findall(r"^\| ([\w-]+), ([\w-]+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    judged = {frozenset(row[:2]) for row in rows if row[2].strip() and row[3].strip()}
    assert judged == {frozenset((edge.source, edge.target)) for edge in route_edges()}


def test_a_layout_of_another_package(tmp_path: Path) -> None:
    """The page's example is installed and takes part in routes; its weights are those that `Linear` computes with."""
    (module,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    site = tmp_path / "site"
    info = site / "nanogpt_layout-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "nanogpt_layout.py").write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nanogpt-layout\nVersion: 1.0\n")
    points = tomllib.loads(project)["project"]["entry-points"]
    lines = [
        f"[{group}]\n{name} = {value}\n"
        for group in points
        for name, value in points[group].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    source, (wide, square) = tmp_path / "gpt2", (8, 3)
    sizes = {"n_embd": wide, "n_layer": square, "n_head": 2, "vocab_size": 13, "n_positions": 7}
    spec = load_spec("gpt2")
    assert spec is not None
    expansion = expand(spec, spec.classes["LMHeadModel"], Config(sizes))
    random = np.random.default_rng(3)
    state = {
        name: random.normal(size=one.shape).astype(np.float32)
        for name, one in expansion.parameters.items()
        if one.computed is None and name != "lm_head.weight"
    }
    source.mkdir()
    save_file(state, source / "model.safetensors", {"format": "pt"})
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes}
    (source / "config.json").write_text(json.dumps(config))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "equipoise", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    commands = re.findall(r"^    equipoise (convert .*)$", PAGE, re.MULTILINE)
    assert "nanogpt -> pytorch -> flax" in run("routes", "--from", "nanogpt")
    run(*commands[0].split())
    found = load_file(tmp_path / "out" / "model.safetensors")
    name = "transformer.h.2.attn.c_attn.weight"
    np.testing.assert_array_equal(found[name], state[name].T)
    assert found[name].shape == (3 * wide, wide)
    run(*commands[1].split())
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, key)
