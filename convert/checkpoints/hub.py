"""Resolves ids and ``hf://`` URLs of the Hugging Face Hub to local paths; needs huggingface_hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.companion_files import COMPANION_SUFFIXES
from equipoise.convert.core.errors import CheckpointError, InputError
from equipoise.convert.core.hints import install_hint
from equipoise.convert.folders.recognition import recognise_paths
from equipoise.convert.folders.shard_index import is_shard_index
from equipoise.convert.folders.weight_files import WEIGHT_FILES, layout_from_filename, variant_names

HUB_SCHEME = "hf://"
_REPOSITORY_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_NO_ANSWER_ERRORS = ("RequestError", "ConnectionError", "Timeout")
"""Exception names of requests and httpx for requests without a response."""
_PASSING_STATUS_CODES = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a server that is busy."""
_TIMEOUT_SECONDS = 10
"""Timeout for the list of files of a repository."""
_FILE_ENDINGS = (
    ".safetensors", ".bin", ".pt", ".pth", ".h5", ".hdf5", ".msgpack", ".json", ".index",
)  # fmt: skip


@dataclass(frozen=True)
class HubRepository:
    """A repository of the Hub at a revision; None is the main branch."""

    name: str
    revision: str | None = None


def resolve_source(
    source: str | Path,
    revision: str | None = None,
    *,
    layout: str | None = None,
    variant: str | None = None,
    cache: Path | None = None,
) -> Path:
    """Returns the local path of a source; downloads it first if it is on the Hub.

    Args:
        source: A path, an id such as ``google-bert/bert-base-uncased``, or ``hf://owner/name@revision``.
        revision: Branch, tag or commit on the Hub.
        layout: Downloads the weights of this layout if the repository has several.
        variant: Downloads the weights of this variant, e.g. ``fp16``.
        cache: Where to download to; None is huggingface_hub's own cache.

    Raises:
        InputError: It exists neither locally nor on the Hub, or cannot be downloaded.
    """
    path = Path(source)
    if not str(source).startswith(HUB_SCHEME) and (path.exists() or _index_path(path).exists()):
        if revision is not None:
            raise InputError("a revision belongs to a source on the Hub", file=path, found=revision)
        return path
    repository = parse_hub_id(str(source), revision)
    if repository is None:
        raise CheckpointError("there is no such file or folder", file=source)
    return _download(repository, str(source), layout, variant, cache)


def _index_path(prefix: Path) -> Path:
    """Returns the index file of a TensorFlow checkpoint that is given by its prefix."""
    return Path(f"{prefix}.index")


def parse_hub_id(source: str, revision: str | None = None) -> HubRepository | None:
    """Returns the repository that a string names, or None if it can only be a path.

    >>> parse_hub_id("hf://google/vit@main")
    HubRepository(name='google/vit', revision='main')
    >>> parse_hub_id("./google/vit"), parse_hub_id("tf_model.h5")
    (None, None)

    Raises:
        InputError: It is a malformed URL, or gives two revisions.
    """
    if not source.startswith(HUB_SCHEME):
        looks = _REPOSITORY_ID.fullmatch(source) and not source.endswith(_FILE_ENDINGS)
        return HubRepository(source, revision) if looks else None
    name, _, own = source.removeprefix(HUB_SCHEME).partition("@")
    if _REPOSITORY_ID.fullmatch(name) is None or ("@" in source and not own):
        raise InputError(
            f"not a URL of the Hub: {source!r}",
            expected="hf://owner/name or hf://owner/name@revision",
        )
    if own and revision not in (None, own):
        raise InputError(f"two revisions: {own!r} in the URL and {revision!r}")
    return HubRepository(name, own or revision)


def _download(
    repository: HubRepository,
    source: str,
    layout: str | None,
    variant: str | None,
    cache: Path | None,
) -> Path:
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            f"there is no file or folder {source!r}; as an id of the Hub it needs huggingface_hub",
            hint=install_hint("hub"),
        ) from error
    offline = bool(import_module("huggingface_hub.constants").HF_HUB_OFFLINE)
    failures = hub_errors()
    try:
        if offline:
            return _cached_snapshot(hub, repository, cache)
        try:
            found = hub.model_info(
                repository.name, revision=repository.revision, timeout=_TIMEOUT_SECONDS
            )
        except failures.unreachable:
            return _cached_snapshot(hub, repository, cache)
        files = [one.rfilename for one in found.siblings or ()]
        patterns = files_to_download(files, layout, repository, variant)
        options: dict[str, Any] = {"revision": repository.revision, "allow_patterns": patterns}
        if cache is not None:
            options["cache_dir"] = cache
        return Path(hub.snapshot_download(repository.name, **options))
    except failures.all as error:
        raise _download_error(repository, error, offline) from error


@dataclass(frozen=True)
class HubErrors:
    """Exception classes of huggingface_hub: those for an unreachable Hub, and all."""

    unreachable: tuple[type[Exception], ...]
    all: tuple[type[Exception], ...]


def hub_errors() -> HubErrors:
    """Returns the exception classes of the installed huggingface_hub."""
    # huggingface_hub < 1.0 uses requests, later releases use httpx or a fork of it; its session's class tells which.
    errors = import_module("huggingface_hub.errors")
    session = import_module("huggingface_hub.utils").get_session()
    library = import_module(type(session).__module__.partition(".")[0])
    named = [getattr(library, name, None) for name in _NO_ANSWER_ERRORS]
    silence = [ConnectionError, TimeoutError, errors.OfflineModeIsEnabled]
    # httpx.Timeout is a setting, not an exception.
    silence += [one for one in named if isinstance(one, type) and issubclass(one, Exception)]
    answers = (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError)
    return HubErrors(tuple(silence), (*silence, *answers, OSError))


def _cached_snapshot(hub: Any, repository: HubRepository, cache: Path | None) -> Path:
    """Returns the snapshot in a cache; None is huggingface_hub's own."""
    options = {} if cache is None else {"cache_dir": cache}
    found = hub.snapshot_download(
        repository.name, revision=repository.revision, local_files_only=True, **options
    )
    return Path(found)


def was_answered(error: BaseException) -> bool:
    """Checks whether the Hub answered a request at all.

    Args:
        error: What :func:`resolve_source` or huggingface_hub raised.
    """
    return any(
        isinstance(cause, json.JSONDecodeError) or getattr(cause, "response", None) is not None
        for cause in _causes(error)
    )


def is_transient(error: BaseException) -> bool:
    """Checks whether a request may work later: the Hub did not answer, was busy, or sent a page where JSON is due.

    Args:
        error: What :func:`resolve_source` or huggingface_hub raised.
    """
    try:
        silence = hub_errors().unreachable
    except ImportError:  # without huggingface_hub nothing was asked
        return False
    passing: tuple[type[BaseException], ...] = (json.JSONDecodeError, *silence)
    return any(
        isinstance(cause, passing)
        or getattr(getattr(cause, "response", None), "status_code", None) in _PASSING_STATUS_CODES
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _download_error(repository: HubRepository, error: Exception, offline: bool) -> InputError:
    if isinstance(error, InputError):
        return error
    at = f" at revision {repository.revision!r}" if repository.revision else ""
    lines = str(error).strip().splitlines() or ["no details"]
    # The library advises an option of its own functions.
    reason = "it is not in the local cache" if "local_files_only" in lines[0] else lines[0]
    return InputError(
        f"there is no such path here, and it cannot be downloaded from the Hub: {repository.name!r}{at}",
        found=f"{type(error).__name__}: {reason}",
        hint=(
            "it is not in the local cache and HF_HUB_OFFLINE is set"
            if offline
            else "check the spelling, the revision and the network; private models need `hf auth login`"
        ),
    )


def files_to_download(
    files: Sequence[str],
    layout: str | None,
    repository: HubRepository,
    variant: str | None = None,
) -> list[str]:
    """Returns the weights of one container, in transformers' order of preference, and their companion files.

    Raises:
        CheckpointError: The repository has no known weight files.
    """
    available = set(files)
    companions = sorted(
        name
        for name in files
        if "/" not in name
        and name.endswith(tuple(COMPANION_SUFFIXES))
        and not is_shard_index(Path(name))
    )
    for base in _weight_files_by_preference(layout):
        name, index = variant_names(base, variant)
        if name in available:
            return [*companions, name, *_data_files(name, files)]
        if index in available:
            stem, _, suffix = name.rpartition(".")
            return [*companions, index, f"{stem}-*-of-*.{suffix}"]
    raise _no_weights(files, layout, variant, repository)


def _no_weights(
    files: Sequence[str], layout: str | None, variant: str | None, repository: HubRepository
) -> CheckpointError:
    """Returns the error for a repository without weights that can be read; names what it is, if that is known."""
    kind = recognise_paths(files)
    wanted = f" of the variant {variant!r}" if variant else ""
    wanted += f" of the layout {layout!r}" if layout else ""
    return CheckpointError(
        f"no weights{wanted} in the repository {repository.name!r}"
        + (f": {kind.what}" if kind else ""),
        expected="one of " + ", ".join(WEIGHT_FILES) + ", or an index of shards",
        found=", ".join(sorted(files)[:12]) or "nothing",
        hint="download it with `hf download`, and give the folder, which is recognised"
        if kind
        else None,
    )


def _weight_files_by_preference(layout: str | None) -> list[str]:
    """Returns weight file names by preference; safetensors on the Hub are usually PyTorch's."""
    if layout is None:
        return list(WEIGHT_FILES)
    implied = {name: layout_from_filename(name) for name in WEIGHT_FILES}
    usable = [name for name in WEIGHT_FILES if implied[name] in (layout, None)]
    return sorted(usable, key=lambda name: (implied[name] or "pytorch") != layout)


def _data_files(name: str, files: Sequence[str]) -> list[str]:
    """Returns the data files of a TensorFlow checkpoint."""
    if not name.endswith(".index"):
        return []
    start = f"{name.removesuffix('.index')}.data-"
    return [other for other in files if other.startswith(start)]
