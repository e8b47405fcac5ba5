"""docs/graph.md draws the graph as it is, and names a judge for each of its edges."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google_checkpoints import all_cases
from safetensors.numpy import load_file, save_file

from equipoise.convert import open_checkpoint
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.conversion.routes import route_edges, to_mermaid
from equipoise.convert.core.rules import Rule
from equipoise.convert.from_pretrained import state_dict
from equipoise.convert.layouts import google
from equipoise.convert.research.marks import known_specs

PAGE = (Path(__file__).parents[2] / "docs" / "graph.md").read_text(encoding="utf-8")


def test_the_drawing_is_what_routes_prints() -> None:
    (drawing,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL)
    assert drawing == to_mermaid()


def test_each_edge_has_a_judge() -> None:
    rows = re.findall(r"^\| ([\w-]+), ([\w-]+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    judged = {frozenset(row[:2]) for row in rows if row[2].strip() and row[3].strip()}
    assert judged == {frozenset((edge.source, edge.target)) for edge in route_edges()}


def test_the_list_of_what_is_not_proven() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| ([\w-]+) \| (\w+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    known = {
        (layout, spec.model_type, "all" if key == "*" else spec.classes[key].name, reason)
        for layout in ("tensorflow", "flax", "google", "t5x", "t5x-scanned", "keras_hub")
        for spec in known_specs(layout)
        for key, reason in spec.layouts[layout].get("unproven", {}).items()
    }
    assert set(rows) == known


@pytest.mark.parametrize("spec", known_specs("google"), ids=lambda spec: spec.model_type)
def test_google_s_names_are_judged_or_not_proven(spec: ArchitectureSpec) -> None:
    """Each name that a class has was in a checkpoint that a loader of transformers read, or by which outputs were compared."""
    own = [case for case in all_cases() if case.model_type == spec.model_type]
    read = {_numbers_alike(name) for case in own for name in case.variables}
    for cls in spec.classes_of("google"):
        views = [google.view(expand(spec, cls, Config(dict(case.config)))) for case in own]
        unread = [
            [rule.targets for rule in view.rules if not _is_read(rule, view.aliases, read)]
            for view in views
        ]
        assert views, "no checkpoint of this architecture was read"
        is_unproven = any(view.unproven for view in views)
        assert is_unproven != any(not names for names in unread), (cls.name, min(unread, key=len))


def _is_read(rule: Rule, aliases: Mapping[str, str], read: set[str]) -> bool:
    (name,) = rule.targets if len(rule.targets) == 1 else (rule.targets[0],)
    spelt = {name, *(other for other, own in aliases.items() if own == name)}
    endings = {_numbers_alike(one) for one in spelt}
    return any(one.endswith(ending) for one in read for ending in endings)


def _numbers_alike(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def test_what_is_not_proven_needs_the_option(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """UMT5 without scanned layers: T5X's own layout of T5, which nobody else reads for UMT5."""
    sizes = {"d_model": 6, "d_kv": 2, "d_ff": 5, "num_heads": 3, "num_layers": 1, "vocab_size": 7}
    spec = load_spec("umt5")
    assert spec is not None
    expansion = expand(spec, spec.classes["ForConditionalGeneration"], Config(sizes))
    source = tmp_path / "umt5"
    source.mkdir()
    state = {name: np.ones(one.shape, np.float32) for name, one in expansion.parameters.items()}
    state = {name: value for name, value in state.items() if "embed_tokens" not in name}
    save_file(state, source / "model.safetensors", {"format": "pt"})
    (source / "config.json").write_text(json.dumps({"model_type": "umt5", **sizes}))
    refused = cli("convert", source, tmp_path / "out", "--to", "t5x")
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert (
        "not proven: UMT5ForConditionalGeneration in the layout t5x: UMT5 was published with"
        in line
    )
    assert line.endswith("--unproven converts it")
    assert not (tmp_path / "out").exists()
    done = cli("convert", source, tmp_path / "out", "--to", "t5x", "--unproven")
    assert done.code == 0
    assert "warning: not proven: UMT5" in done.err
    manifest = json.loads((tmp_path / "out" / "equipoise.json").read_text())
    assert manifest["options"]["unproven"] is True
    assert manifest["notes"][0].startswith("not proven: ")
    assert cli("convert", tmp_path / "out", tmp_path / "back", "--to", "pytorch").code == 2
    assert cli("convert", source, tmp_path / "scanned", "--to", "t5x-scanned").code == 0
    with pytest.warns(UserWarning, match="not proven: UMT5"):
        assert len(state_dict(open_checkpoint(tmp_path / "out"))) >= len(state)


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
