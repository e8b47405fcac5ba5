"""Code that a model's folder brings is never run: no loader trusts it, and no answer is read."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.convert.core.plugins import load_file
from equipoise.validators.models.sources import ModelSource

ROOT = Path(__file__).parents[3]
BERT = ROOT / "fixtures" / "tasks" / "text-classification"


def loading_calls(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and text of every call of ``from_pretrained``."""
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if is_call and node.func.attr == "from_pretrained":
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("package", ["convert", "exporters", "validators", "cli"])
def test_every_loader_is_told_not_to_trust(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {call}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, call in loading_calls(path.read_text(encoding="utf-8"))
        # ``from_pretrained`` of Equipoise passes on what its caller says, and False otherwise.
        if "trust_remote_code=False" not in call and path.name != "from_pretrained.py"
    ]
    assert found == []


def add_code(folder: Path, file: str, changes: dict[str, Any]) -> Path:
    """Makes a copy of a model whose ``file`` names code, which would leave a mark."""
    shutil.copytree(BERT, folder)
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**values, **changes}))
    mark = folder.parent / "executed"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from transformers import BertConfig as OwnConfig, BertForSequenceClassification as Own\n"
        "from transformers import BertTokenizer as OwnTokenizer\n"
    )
    return mark


CONFIG = {
    "model_type": "own",
    "architectures": ["OwnForSequenceClassification"],
    "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.Own"},
}
TOKENIZER = {
    "tokenizer_class": "OwnTokenizer",
    "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]},
}


@pytest.mark.transformers
@pytest.mark.parametrize("command", ["run", "validate", "export"])
@pytest.mark.parametrize(
    ("file", "changes"), [("config.json", CONFIG), ("tokenizer_config.json", TOKENIZER)]
)
def test_a_folder_that_needs_its_code_is_refused_in_one_line(
    file: str, changes: dict[str, Any], command: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    mark = add_code(tmp_path / "model", file, changes)
    (tmp_path / "model" / "tokenizer.json").unlink()
    arguments = {
        "run": ("run", "text-classification", tmp_path / "model", "good"),
        "validate": ("validate", tmp_path / "model", "--cases", "single"),
        "export": ("export", tmp_path / "model", tmp_path / "out", "--to", "onnx"),
    }
    outcome = cli(*arguments[command])
    assert outcome.code == 2
    note, error = outcome.err.splitlines()
    assert note.startswith("note: model brings Python code of its own (own.Own")
    assert "it needs Python code of its own (own.Own" in error
    assert "no code of a model's folder is run" in error
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.transformers
def test_an_answer_on_standard_input_is_not_read(tmp_path: Path) -> None:
    """``yes | equipoise run`` executed the code of a folder, since transformers asks."""
    pytest.importorskip("torch")
    mark = add_code(tmp_path / "model", "config.json", {**CONFIG, "architectures": ["Bert"]})
    script = (
        "import equipoise.cli.main as m\n"
        f"m.sys.argv[1:] = ['run', 'text-classification', {str(tmp_path / 'model')!r}, 'good']\n"
        "m.main()\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        input="y\n" * 20,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not mark.exists()


def test_no_command_reads_standard_input() -> None:
    script = (
        "import sys, equipoise.cli.main as m\n"
        "m.run = lambda arguments: len(sys.stdin.read())\n"
        "m.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input="y\n", text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer_config.json"])
def test_a_tokenizer_that_lies_elsewhere(
    name: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    """Its words would come back in answers and reports."""
    shutil.copytree(BERT, tmp_path / "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    (tmp_path / "model" / name).symlink_to("/etc/passwd")
    for command in (("run", "text-classification"), ("validate",)):
        outcome = cli(*command, tmp_path / "model", *(("good",) if command[0] == "run" else ()))
        assert outcome.code == 2
        assert "it is not read, since it is a link that leads out of the folder" in outcome.err


def test_samples_that_lie_elsewhere(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "fixtures" / "tasks" / "image-classification", folder)
    (tmp_path / "secret.png").write_bytes(b"")
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        (folder / "samples.json").write_text(json.dumps([{"inputs": {"image": path}}]))
        outcome = cli("validate", folder)
        assert outcome.code == 2
        assert "leads out of the folder" in outcome.err


@pytest.mark.transformers
def test_programs_with_code_are_named_with_their_limits(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """This one writes a file when it is run, as docs/security.md says."""
    torch = pytest.importorskip("torch")
    source = tmp_path / "program.py"
    source.write_text(
        "import torch\n"
        "class Program(torch.nn.Module):\n"
        "    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):\n"
        f"        torch.save(input_ids, {str(tmp_path / 'written')!r})\n"
        "        return {'logits': torch.zeros([input_ids.shape[0], 2])}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(load_file(source).Program()).save(str(tmp_path / "program.pt"))
    limits = ("--time-limit", "300", "--memory-limit", str(64 << 30))
    outcome = cli(
        *("run", "text-classification", tmp_path / "program.pt", "good", "--companions", BERT),
        *limits,
    )
    text = "TorchScript: it runs with your rights, within 300 s a request, 68719476736 bytes of address space"
    assert outcome.code == 0
    assert outcome.err == f"note: {text}\n"
    assert (tmp_path / "written").is_file()
    given = ModelSource("torchscript", tmp_path / "program.pt")
    assert given.code_notes("no limits") == (
        "TorchScript: it runs with your rights, within no limits",
    )
    assert ModelSource("saved-model", tmp_path).code_notes("")[0].startswith("a SavedModel: ")
    assert ModelSource("torch-export", tmp_path).code_notes("")[0].startswith("a program of ")
    assert ModelSource(str(source), BERT).code_notes("")[0].startswith("Python code: ")
    assert ModelSource("torchscript", tmp_path, "exported (trace)").code_notes("") == ()
    assert ModelSource("onnx", tmp_path).code_notes("") == ()
