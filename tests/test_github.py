"""Issue forms ask for what is needed, and the workflow runs README's test command."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FORMS = sorted(
    path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_is_a_form_of_each_kind() -> None:
    assert [path.stem for path in FORMS] == ["bug", "conversion-refused", "wrong-verdict"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_ask_what_the_folder_holds(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    ids = [one["id"] for one in form["body"]]
    assert len(ids) == len(set(ids))
    (inspected,) = [one for one in form["body"] if one["id"] == "inspect"]
    assert "equipoise inspect FOLDER --json" in inspected["attributes"]["label"]
    assert inspected["validations"]["required"]


def test_the_workflow_runs_the_command_of_the_readme() -> None:
    workflow = read(ROOT / ".github/workflows/test.yml")
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow[True]) == {"push", "pull_request"}
    steps = workflow["jobs"]["test"]["steps"]
    (python,) = [one["with"] for one in steps if "setup-python" in one.get("uses", "")]
    assert python["python-version"] == "3.11"
    (command,) = [one["run"] for one in steps if "run" in one]
    assert f"`{command}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"exec {command}" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_links_of_the_security_page() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).is_file(), link


def test_urls_of_the_repository_agree() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert {"Documentation", "Changelog", "Issues"} <= set(urls)
    assert all(url.startswith("https://github.com/OWNER/equipoise") for url in urls.values())
