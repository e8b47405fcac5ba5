"""Plans what is published: for each conversion of a repository its weights, their manifest, and a section of the card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.hub import HubRepository, parse_hub_id
from equipoise.fleet.core.store import ResultStore
from equipoise.fleet.publishing.card import card_section

MANIFEST = "equipoise.json"


@dataclass(frozen=True)
class Publication:
    """What one conversion adds to its repository.

    Attributes:
        key: The job's key.
        repository: ``owner/name``.
        commit: The commit that was converted; None if the job named none.
        files: Name in the repository -> the file.
        section: The section of the model card.
        store: The folder of the results.
    """

    key: str
    repository: str
    commit: str | None
    files: dict[str, Path]
    section: str
    store: Path

    @property
    def mark(self) -> str:
        """What the titles of its pull requests end with: by it an earlier one is found."""
        return f"[equipoise {self.key[:12]}]"

    @property
    def title(self) -> str:
        """The title of the commit and the pull request."""
        names = ", ".join(sorted(name for name in self.files if name != MANIFEST))
        return f"Add {names[:80]} {self.mark}"

    @property
    def digest(self) -> str:
        """A digest of all that is published."""
        found = sha256(self.section.encode())
        for name, path in sorted(self.files.items()):
            found.update(f"{name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n".encode())
        return found.hexdigest()

    @property
    def record(self) -> Path:
        """The file that says what was published."""
        return self.store / "published" / f"{self.key}.json"


def plan_publications(folders: Sequence[Path]) -> list[Publication]:
    """Returns what the conversions of repositories add to them, by repository.

    Raises:
        InputError: A folder holds no results of a fleet.
    """
    results = [
        (folder, store.read(key))
        for folder in folders
        for store in [ResultStore.open(folder)]
        for key in sorted(store.done_keys())
    ]
    sources = [parse_hub_id(result["source"]) for _, result in results]
    verdicts: dict[str, list[tuple[str, str, str]]] = {}
    for (_, result), source in zip(results, sources, strict=True):
        if source is not None and result["command"] == "validate":
            summary = result["summary"]
            for backend, verdict in (summary.get("backends") or {}).items():
                row = (str(summary.get("task")), backend, verdict)
                verdicts.setdefault(source.name, []).append(row)
    found = [
        _publication(folder, result, source, verdicts.get(source.name, []))
        for (folder, result), source in zip(results, sources, strict=True)
        if source is not None and result["command"] == "convert" and result["status"] == "ok"
    ]
    return sorted(found, key=lambda one: (one.repository, one.key))


def _publication(
    folder: Path,
    result: dict[str, Any],
    source: HubRepository,
    verdicts: list[tuple[str, str, str]],
) -> Publication:
    output = folder / result["output"]
    manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    names = [*manifest["target"]["files"], MANIFEST]
    return Publication(
        result["key"],
        source.name,
        source.revision,
        {one: output / one for one in names},
        card_section(manifest, result["software"], verdicts),
        folder,
    )
