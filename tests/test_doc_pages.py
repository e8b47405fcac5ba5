"""Links, paths, commands and code blocks of every page: references exist and examples run."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from equipoise.cli import main
from equipoise.convert.architectures.spec import SECTIONS
from equipoise.convert.core.plugins import load_file
from equipoise.validators.pytest_plugin import Parity
from equipoise.validators.report.summary import COLUMNS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)
MAX_LINES_ON_A_PAGE = 300
SENTIMENT = ROOT / "fixtures" / "checkpoints" / "sentiment"
TASKS = ROOT / "fixtures" / "tasks"
FOLDERS = [
    "convert",
    "exporters",
    "validators",
    "fleet",
    "cli",
    "tests",
    "fixtures",
    "benchmarks",
    "tools",
    "docs",
    "constraints",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*)(?:::([\w.]+))?`")
MODULE = re.compile(r"\bequipoise(?:\.\w+)+")
PLACEHOLDER = re.compile(r"MODEL_TYPE|NAME|FAMILY")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HISTORIC = ("docs/decisions/0005-names-of-modules.md",)
"""Pages that mention names that no longer exist or never did."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def prose(page: str) -> str:
    """Returns a page without its code blocks."""
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_long(page: str) -> None:
    assert text_of(page).count("\n") <= MAX_LINES_ON_A_PAGE


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    for link in LINK.findall(prose(page)):
        if not re.match(r"https?:|mailto:", link):
            file, _, anchor = link.partition("#")
            target = ((ROOT / page).parent / file) if file else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_paths(page: str) -> None:
    for path, name in PATH.findall(text_of(page)):
        if page not in HISTORIC and not PLACEHOLDER.search(path):
            assert list(ROOT.glob(path.rstrip("/"))), path
            last = name.rpartition(".")[2]
            assert not name or re.search(rf"\b{last}\b", text_of(path)), name


@pytest.mark.parametrize("page", PAGES)
def test_modules(page: str) -> None:
    """Dotted names of Equipoise are modules, attributes of modules, or entry point groups."""
    for name in MODULE.findall(text_of(page)):
        if page in HISTORIC or re.fullmatch(
            r"equipoise\.(executors|tasks|targets|layouts|json|toxicity)", name
        ):
            continue
        module, _, attribute = name.rpartition(".")
        try:
            import_module(name)
        except ImportError:
            assert hasattr(import_module(module), attribute), name


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def index_of_pages() -> set[str]:
    return set(LINK.findall(text_of("docs/README.md")))


def test_the_index_has_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= index_of_pages()
    assert "docs/README.md" in LINK.findall(text_of("README.md"))


def command_lines() -> list[tuple[str, str]]:
    """Yields the commands in blocks, indented lines and sentences, each with its page."""
    found = set()
    for page in PAGES:
        text = text_of(page)
        lines = re.findall(
            r"^(?:\$ |    )((?:equipoise|pytest|pip install|make) .*)$", text, re.MULTILINE
        )
        lines += re.findall(r"`((?:equipoise|make) [^`\n]+)`", prose(page))
        found |= {(page, line.partition("  #")[0].strip()) for line in lines}
    return sorted(found)


def alternatives(words: list[str]) -> list[list[str]]:
    """Splits ``--to onnx|tflite`` into two commands."""
    for number, word in enumerate(words):
        if "|" in word:
            parts = word.split("|")
            return [
                one
                for part in parts
                for one in alternatives([*words[:number], part, *words[number + 1 :]])
            ]
    return [words]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_command(page: str, line: str) -> None:
    """The command exists and has these options."""
    program, *words = shlex.split(re.sub(r"\[[^\]]*\]|\.\.\.", "", line))
    if program == "make":
        assert re.search(rf"^{words[0]}:", text_of("Makefile"), re.MULTILINE)
    elif program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", line)
        names = {name for one in extras for name in one.split(",")}
        assert names <= set(PROJECT["optional-dependencies"])
    elif program == "pytest":
        options = {word for word in words if word.startswith("--")}
        source = inspect.getsource(inspect.getmodule(Parity))  # type: ignore[arg-type]
        assert all(option in source for option in options)
    else:
        for one in alternatives(words):
            check_command(one)


def check_command(words: list[str]) -> None:
    if words[0].startswith("-") or words[0] == "COMMAND":
        return
    command = main.root.get_command(click.Context(main.root), words[0])
    assert command is not None, words[0]
    if isinstance(command, click.Group) and len(words) > 1:
        part = command.get_command(click.Context(command), words[1])
        assert part is not None, words[1]
        command, words = part, words[1 : words.index("--") if "--" in words else None]
    arguments = [word for word in words[1:] if word != "--help"]
    context = click.Context(command, info_name=words[0])
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    assert rest == []
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter, click.Option) and value is not None and value != ():
            parameter.type_cast_value(context, value)


def test_readme_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    """The first block of README runs on the fixture that it was made with."""
    shutil.copytree(SENTIMENT, tmp_path / "bert-sentiment")
    monkeypatch.chdir(tmp_path)
    listing, *runs = re.split(r"^\$ ", blocks("README.md", "console")[0], flags=re.MULTILINE)[1:]
    assert listing.split()[2:] == sorted(path.name for path in SENTIMENT.iterdir())
    for run in runs:
        line, _, expected = run.partition("\n")
        outcome = cli(*shlex.split(line)[1:])
        assert outcome.code == 0
        assert outcome.out.strip() == expected.strip()


def test_readme_tables_are_current() -> None:
    text = text_of("README.md")
    heads = [line for line in text.splitlines() if line.startswith("backend ")]
    assert len(heads) == 2
    for head in heads:
        assert tuple(re.split(r"  +", head)) == COLUMNS


def python_block(page: str, part: str) -> str:
    """Returns the only Python block of a page that contains a text."""
    (found,) = (block for block in blocks(page, "python") if part in block)
    return found


def test_every_python_block_is_run() -> None:
    """A new block needs a test; blocks of docs/validate.md are tested in tests/test_doc_examples.py."""
    counts = {page: len(blocks(page, "python")) for page in PAGES}
    expected = {
        "README.md": 4,
        "docs/graph.md": 1,  # tests/convert/test_graph_page.py
        "docs/artifacts.md": 8,  # tests/exporters/test_artifacts.py
        "docs/ci.md": 1,
        "docs/export.md": 1,
        "docs/fleet.md": 2,  # tests/fleet/test_fleet.py
        "docs/gpu.md": 1,
        "docs/jax.md": 4,
    }
    assert {page: count for page, count in counts.items() if count} == {
        **expected,
        "docs/validate.md": 2,
    }


def test_backend_with_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    from equipoise.validators.backends.programs import onnx

    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(onnx, "load", lambda *arguments: calls.append(arguments))
    scope: dict[str, Any] = {}
    exec(python_block("docs/gpu.md", "TensorrtExecutionProvider"), scope)  # noqa: S102
    scope["load"]("bert", "BertModel", {"threads": 1})
    options = {"threads": 1, "provider": "TensorrtExecutionProvider"}
    assert calls == [("bert-onnx/model.onnx", "BertModel", options)]


@pytest.mark.parametrize("page", ["README.md", "docs/ci.md"])
def test_arguments_of_parity(page: str) -> None:
    """The ``parity`` fixture has these arguments."""
    scope: dict[str, Any] = {}
    exec(python_block(page, "parity("), scope)  # noqa: S102
    (test,) = (one for name, one in scope.items() if name.startswith("test_"))
    called = []

    def parity(*args: Any, **kwargs: Any) -> None:
        called.append(inspect.signature(Parity.__call__).bind(None, *args, **kwargs))

    test(parity)
    assert called


def test_python_of_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SENTIMENT, tmp_path / "bert-sentiment")
    monkeypatch.chdir(tmp_path)
    exec(python_block("README.md", "import convert, open_checkpoint"), {})  # noqa: S102
    assert (tmp_path / "as-flax" / "flax_model.msgpack").is_file()


@pytest.mark.transformers
def test_from_pretrained_of_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    shutil.copytree(SENTIMENT, tmp_path / "bert-sentiment")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(python_block("README.md", "from_tf=True"), scope)  # noqa: S102
    assert type(scope["model"]).__name__ == "BertForSequenceClassification"


@pytest.mark.transformers
@pytest.mark.slow
def test_example_target(tmp_path: Path, cli: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    file = tmp_path / "my_target.py"
    file.write_text(python_block("docs/export.md", "TARGET ="))
    assert load_file(file).TARGET.program == "weights.pt"
    outcome = cli("export", TASKS / "text-classification", tmp_path / "out", "--to", file, "--json")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "weights.pt").is_file()
    manifest = json.loads((tmp_path / "out" / "artifact.json").read_text())
    assert "the weights alone" in manifest["notes"]


@pytest.mark.transformers
@pytest.mark.slow
class TestJaxPage:
    """Runs the blocks of docs/jax.md and README on exported programs."""

    ids = np.arange(5, 15, dtype=np.int32).reshape(2, 5)
    mask = np.ones((2, 5), np.int32)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}  # noqa: RUF012

    @pytest.fixture
    def export(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
    ) -> Callable[..., None]:
        monkeypatch.chdir(tmp_path)

        def run(model: str, target: str, output: str, *options: object) -> None:
            arguments = ("export", TASKS / model, output, "--to", target, "--no-validate")
            outcome = cli(*arguments, *options)
            assert outcome.code == 0, outcome.err

        return run

    def test_load(self, export: Callable[..., None]) -> None:
        jax = pytest.importorskip("jax")
        from equipoise.exporters import load_jax

        export("text-classification", "stablehlo", "OUTPUT")
        shutil.copytree("OUTPUT", "bert-jax")
        weights = load_jax("OUTPUT").parameters
        scope = {"inputs": self.inputs, "other_weights": weights, "jax": jax}
        exec(python_block("docs/jax.md", "load_flax"), scope)  # noqa: S102
        exec(python_block("README.md", "load_flax"), scope)  # noqa: S102

    def test_cache(self, export: Callable[..., None]) -> None:
        pytest.importorskip("jax")
        from equipoise.exporters import load_jax

        export("text-generation", "stablehlo", "OUTPUT")
        positions = np.tile(np.arange(5, dtype=np.int32), (2, 1))
        scope = {"load_jax": load_jax, "ids": self.ids, "mask": self.mask, "positions": positions}
        scope |= {"new": self.ids[:, :1], "longer_mask": np.ones((2, 6), np.int32)}
        scope["next_positions"] = np.full((2, 1), 5, np.int32)
        exec(python_block("docs/jax.md", "model.roles"), scope)  # noqa: S102

    def test_saved_model(self, export: Callable[..., None]) -> None:
        pytest.importorskip("jax")
        tf = pytest.importorskip("tensorflow")
        export("text-classification", "saved-model", "OUTPUT")
        inputs = {name: tf.constant(value) for name, value in self.inputs.items()}
        scope = {"tf": tf, "inputs": inputs}
        exec(python_block("docs/jax.md", "saved_model.load"), scope)  # noqa: S102

    @pytest.mark.filterwarnings("ignore")
    def test_tflite(self, export: Callable[..., None]) -> None:
        pytest.importorskip("jax")
        tf = pytest.importorskip("tensorflow")
        export("text-classification", "tflite", "OUTPUT", "--batch", 2, "--sequence", 5)
        scope = {"tf": tf, "inputs": self.inputs}
        exec(python_block("docs/jax.md", "tf.lite"), scope)  # noqa: S102


def test_example_architecture_files() -> None:
    """Every block is TOML with sections that the parser knows."""
    for block in blocks("docs/architecture-files.md", "toml"):
        assert set(tomllib.loads(block)) <= set(SECTIONS)


def test_other_blocks_are_well_formed() -> None:
    for block in blocks("docs/validate.md", "json"):
        assert all("inputs" in sample for sample in json.loads(block))
    for block in blocks("docs/validate.md", "toml"):
        tomllib.loads(block)
    (workflow,) = blocks("docs/ci.md", "yaml")
    action = text_of("action.yml")
    for name in re.findall(r"^    ([a-z-]+):", workflow, re.MULTILINE):
        assert re.search(rf"^  {name}:$", action, re.MULTILINE)
    for name in re.findall(r"`([a-z-]+)`", text_of("docs/ci.md").partition("Further inputs")[2]):
        assert (
            name == "validate" or re.search(rf"^  {name}:$", action, re.MULTILINE) or name == "env"
        ), name
