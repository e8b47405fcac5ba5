"""Sources on the Hub: downloaded files, cache, error messages; without a network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from equipoise.convert.checkpoints.hub import (
    HubRepository,
    files_to_download,
    parse_hub_id,
    resolve_source,
)
from equipoise.convert.core.errors import CheckpointError, InputError

FILES = [
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "model.safetensors",
    "onnx/model.onnx",
    "onnx/config.json",
    "pytorch_model.bin",
    "tf_model.h5",
    "vocab.txt",
]
REPO = HubRepository("owner/name")


class FakeHub(ModuleType):
    """The used part of huggingface_hub, with a folder as cache."""

    errors: Any
    constants: Any

    def __init__(self, cache: Path) -> None:
        super().__init__("huggingface_hub")
        self.cache = cache
        self.files = FILES
        self.failure: Exception | None = None
        self.calls: list[dict[str, Any]] = []

    def model_info(self, name: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.calls.append({"name": name, **options})
        folder = self.cache / name.replace("/", "--")
        if options.get("local_files_only") and not folder.is_dir():
            raise self.errors.LocalEntryNotFoundError("not in the cache")
        folder.mkdir(exist_ok=True)
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path)
    errors = ModuleType("huggingface_hub.errors")
    constants = ModuleType("huggingface_hub.constants")
    http = type("HfHubHTTPError", (OSError,), {})
    for name, base in (
        ("HfHubHTTPError", http),
        ("LocalEntryNotFoundError", FileNotFoundError),
        ("HFValidationError", ValueError),
        ("OfflineModeIsEnabled", ConnectionError),
        ("RepositoryNotFoundError", http),
    ):
        setattr(errors, name, base if name == "HfHubHTTPError" else type(name, (base,), {}))
    utils = ModuleType("huggingface_hub.utils")
    vars(utils)["get_session"] = threading.local  # any class of a module that names no such errors
    vars(constants)["HF_HUB_OFFLINE"] = False
    for module in (fake, errors, constants, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    fake.errors, fake.constants = errors, constants
    return fake


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("google-bert/bert-base-uncased", HubRepository("google-bert/bert-base-uncased")),
        ("gpt2", HubRepository("gpt2")),
        ("hf://owner/name", HubRepository("owner/name")),
        ("hf://owner/name@v1.0", HubRepository("owner/name", "v1.0")),
        ("./owner/name", None),
        ("/owner/name", None),
        ("../name", None),
        ("a/b/c", None),
        ("owner/tf_model.h5", None),
        ("model.safetensors", None),
    ],
)
def test_repositories_that_a_string_names(text: str, expected: HubRepository | None) -> None:
    assert parse_hub_id(text) == expected


@pytest.mark.parametrize(
    "text", ["hf://", "hf://a/b/c", "hf://a b", "hf://owner/name@", "hf://../x"]
)
def test_a_broken_url_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a URL of the Hub"):
        parse_hub_id(text)


def test_two_revisions_are_refused() -> None:
    with pytest.raises(InputError, match="two revisions"):
        parse_hub_id("hf://owner/name@a", "b")
    assert parse_hub_id("hf://owner/name@a", "a") == HubRepository("owner/name", "a")


def test_one_container_and_its_companions_are_downloaded() -> None:
    companions = ["config.json", "vocab.txt"]
    assert files_to_download(FILES, None, REPO) == [*companions, "model.safetensors"]
    assert files_to_download(FILES, "pytorch", REPO) == [*companions, "model.safetensors"]
    assert files_to_download(FILES, "tensorflow", REPO) == [*companions, "tf_model.h5"]
    assert files_to_download(FILES, "flax", REPO) == [*companions, "flax_model.msgpack"]
    only = [*companions, "model.safetensors"]
    assert files_to_download(only, "flax", REPO) == only
    without = [name for name in FILES if name != "model.safetensors"]
    assert files_to_download(without, None, REPO) == [*companions, "pytorch_model.bin"]


def test_shards_come_with_their_index() -> None:
    files = ["config.json", "tf_model.h5.index.json", "tf_model-00001-of-00002.h5"]
    assert files_to_download(files, None, REPO) == [
        "config.json",
        "tf_model.h5.index.json",
        "tf_model-*-of-*.h5",
    ]


def test_a_checkpoint_comes_with_its_data() -> None:
    files = ["model.ckpt.index", "model.ckpt.data-00000-of-00001", "model.ckpt.meta"]
    assert files_to_download(files, None, REPO) == files[:2]


def test_a_repository_without_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no weights in the repository 'owner/name'"):
        files_to_download(["README.md"], None, REPO)


def test_the_files_of_a_variant() -> None:
    files = ["config.json", "model.fp16.safetensors", "model.safetensors", "tf_model.h5"]
    assert files_to_download(files, None, REPO, "fp16") == ["config.json", "model.fp16.safetensors"]
    sharded = ["config.json", "model.safetensors.index.fp16.json", "model.safetensors.index.json"]
    assert files_to_download(sharded, None, REPO, "fp16") == [
        *("config.json", "model.safetensors.index.fp16.json", "model.fp16-*-of-*.safetensors")
    ]
    with pytest.raises(CheckpointError, match="no weights of the variant 'bf16'"):
        files_to_download(files, None, REPO, "bf16")


def test_an_existing_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_source("owner/name") == Path("owner/name")
    with pytest.raises(InputError, match="a revision belongs to a source on the Hub"):
        resolve_source("owner/name", "main")


def test_the_prefix_of_a_tensorflow_checkpoint_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").touch()
    assert resolve_source(tmp_path / "model.ckpt") == tmp_path / "model.ckpt"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="pip install 'huggingface_hub>="):
        resolve_source("owner/name")


def test_a_missing_path_is_not_an_id(hub: FakeHub) -> None:
    with pytest.raises(CheckpointError, match="there is no such file or folder"):
        resolve_source("./owner/name")
    assert hub.calls == []


def test_only_what_is_needed_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    assert resolve_source("hf://owner/name@v2") == tmp_path / "owner--name"
    assert hub.calls == [
        {
            "name": "owner/name",
            "revision": "v2",
            "allow_patterns": ["config.json", "vocab.txt", "model.safetensors"],
        }
    ]


def test_offline_the_cache_is_used(hub: FakeHub, tmp_path: Path) -> None:
    hub.constants.HF_HUB_OFFLINE = True
    (tmp_path / "owner--name").mkdir()
    assert resolve_source("owner/name", "main") == tmp_path / "owner--name"
    assert hub.calls == [{"name": "owner/name", "revision": "main", "local_files_only": True}]


def test_without_network_the_cache_is_used(hub: FakeHub, tmp_path: Path) -> None:
    hub.failure = ConnectionError("no route")
    (tmp_path / "owner--name").mkdir()
    assert resolve_source("owner/name") == tmp_path / "owner--name"


def _offline(hub: FakeHub) -> None:
    hub.constants.HF_HUB_OFFLINE = True


def _no_route(hub: FakeHub) -> None:
    hub.failure = ConnectionError("no route to host")


def _not_found(hub: FakeHub) -> None:
    hub.failure = hub.errors.RepositoryNotFoundError("404 Client Error")


@pytest.mark.parametrize(
    ("fail", "text"),
    [
        (_offline, "HF_HUB_OFFLINE is set"),
        (_no_route, "LocalEntryNotFoundError"),
        (_not_found, "404 Client Error"),
    ],
)
def test_failures_are_input_errors(
    hub: FakeHub, fail: Callable[[FakeHub], None], text: str
) -> None:
    fail(hub)
    with pytest.raises(
        InputError, match="cannot be downloaded from the Hub: 'absent/repo'"
    ) as caught:
        resolve_source("absent/repo")
    assert text in str(caught.value)


def test_with_the_real_library_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_source("owner/name") == snapshot
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        resolve_source("owner/other")
