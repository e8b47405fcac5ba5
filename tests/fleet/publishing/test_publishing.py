"""Conversions are published once each, with their proof, to a Hub on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub, client_environment, serving

pytest.importorskip("huggingface_hub")

from equipoise.fleet.publishing.card import with_section

MODEL = Path(__file__).parents[3] / "fixtures" / "tasks" / "text-classification"
CARD = "---\nlicense: mit\n---\n# A model\n\nIts text.\n"
NAMES = ("free", "gated", "other", "silent")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Serves four repositories: a free one, a gated one, one with another licence, one without."""
    for name in NAMES:
        folder = tmp_path / "hub" / "org" / name
        shutil.copytree(MODEL, folder)
        (folder / "README.md").write_text(CARD)
    server = Hub(tmp_path / "hub")
    licenses = {"free": "mit", "gated": "mit", "other": "llama3"}
    server.extra = {f"org/{name}": {"cardData": {"license": one}} for name, one in licenses.items()}
    server.extra["org/gated"]["gated"] = "manual"
    with serving(server):
        yield server


Fleet = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fleet(hub: Hub, tmp_path: Path) -> Fleet:
    """Runs a command of the fleet against the Hub; the four repositories are converted."""
    environment = client_environment(hub, tmp_path / "home")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-W", "ignore", "-m", "equipoise", "fleet", *arguments]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    out = str(tmp_path / "out")
    done = run("convert", "hf://?author=org", "--out", out, "--workers", "1", "--", "--to", "flax")
    assert done.returncode == 0, done.stderr
    return run


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["repository"].removeprefix("org/"): one["state"] for one in json.loads(done.stdout)}


def output(folder: Path) -> Path:
    """Returns what was converted from the free repository."""
    results = (json.loads(path.read_text()) for path in folder.glob("results/*/*.json"))
    return folder / next(one["output"] for one in results if "org/free" in one["source"])


@pytest.mark.slow
def test_published_once(hub: Hub, fleet: Fleet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = fleet("publish", str(out), "--dry-run", "--json")
    assert [one["repository"] for one in json.loads(plan.stdout)] == [
        f"org/{n}" for n in sorted(NAMES)
    ]
    assert (hub.writes.main, hub.writes.pulls) == ({}, {})

    first = fleet("publish", str(out), "--create-pr", "--json")
    assert states(first) == {
        "free": "published",
        "gated": "refused",
        "other": "refused",
        "silent": "refused",
    }
    assert first.returncode == 2
    (pull,) = hub.writes.pulls["org/free"]
    assert set(hub.writes.pulls) == {"org/free"}
    assert set(pull.branch.files) == {"README.md", "equipoise.json", "flax_model.msgpack"}
    weights = output(out) / "flax_model.msgpack"
    assert pull.branch.files["flax_model.msgpack"] == weights.read_bytes()
    card = pull.branch.files["README.md"].decode()
    assert card.startswith(CARD)
    manifest = json.loads((output(out) / "equipoise.json").read_text())
    assert manifest["target"]["files"]["flax_model.msgpack"] in card
    assert "bit for bit" in card

    assert states(fleet("publish", str(out), "--create-pr", "--json"))["free"] == "unchanged"
    shutil.rmtree(out / "published")  # as on another machine
    assert states(fleet("publish", str(out), "--create-pr", "--json"))["free"] == "unchanged"
    assert (len(hub.writes.pulls["org/free"]), pull.branch.commits) == (1, 1)


@pytest.mark.slow
def test_an_open_request_is_updated_and_a_closed_one_stays(
    hub: Hub, fleet: Fleet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fleet("publish", str(out), "--create-pr")
    (pull,) = hub.writes.pulls["org/free"]
    former = dict(pull.branch.files)
    pull.branch.files["flax_model.msgpack"] = b"of an earlier conversion"
    shutil.rmtree(out / "published")
    assert states(fleet("publish", str(out), "--create-pr", "--json"))["free"] == "updated"
    assert hub.writes.pulls["org/free"] == [pull]
    assert pull.branch.files == former
    pull.status = "closed"
    shutil.rmtree(out / "published")
    assert states(fleet("publish", str(out), "--create-pr", "--json"))["free"] == "unchanged"
    assert hub.writes.pulls["org/free"] == [pull]


@pytest.mark.slow
def test_a_busy_hub_gets_one_request(hub: Hub, fleet: Fleet, tmp_path: Path) -> None:
    """Some of the answers are 429 and 503: tried again, and no second pull request."""
    hub.failing = 0.15
    given = ["--create-pr", "--gated", "--license", "llama3", "--license", "none", "--json"]
    found = fleet("publish", str(tmp_path / "out"), *given)
    hub.failing = 0.0
    assert states(found) == dict.fromkeys(NAMES, "published")
    assert hub.failures
    assert {name: len(pulls) for name, pulls in hub.writes.pulls.items()} == {
        f"org/{name}": 1 for name in NAMES
    }


@pytest.mark.slow
def test_the_main_branch(hub: Hub, fleet: Fleet, tmp_path: Path) -> None:
    assert states(fleet("publish", str(tmp_path / "out"), "--json"))["free"] == "published"
    assert hub.writes.pulls == {}
    assert hub.writes.main["org/free"].commits == 1
    shutil.rmtree(tmp_path / "out" / "published")
    assert states(fleet("publish", str(tmp_path / "out"), "--json"))["free"] == "unchanged"
    assert hub.writes.main["org/free"].commits == 1


@pytest.mark.parametrize("card", [CARD, "", "# Only a title"])
def test_the_section_replaces_itself(card: str) -> None:
    first = "<!-- equipoise: begin -->\nfirst\n<!-- equipoise: end -->\n"
    second = first.replace("first", r"second \1")
    once = with_section(card, first)
    assert once.startswith(card.rstrip())
    assert with_section(once, second) == once.replace("first", r"second \1")
