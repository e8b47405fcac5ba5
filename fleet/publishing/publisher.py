"""Publishes conversions: a commit or a pull request each, once, however often it is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.hub import hub_errors, is_transient
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import install_hint
from equipoise.convert.files.atomic import write_atomic
from equipoise.fleet.core.hub_retry import HubRetry
from equipoise.fleet.publishing.card import with_section
from equipoise.fleet.publishing.plan import Publication

CARD = "README.md"
FREE_LICENSES = frozenset(
    {"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "isc", "unlicense"}
)  # fmt: skip
"""Licences that allow a copy in another format without further conditions than the notice."""

_WAITS = (1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True)
class PublishSettings:
    """How conversions are published.

    Attributes:
        create_pr: Whether to open pull requests; else the main branch is written.
        licenses: Further licences that are published.
        gated: Whether gated repositories are published.
        waits: Seconds between tries where the Hub is busy and does not say how long to wait.
    """

    create_pr: bool = False
    licenses: Collection[str] = ()
    gated: bool = False
    waits: Sequence[float] = _WAITS


@dataclass(frozen=True)
class Outcome:
    """What became of a publication.

    Attributes:
        repository: ``owner/name``.
        state: ``published``, ``updated``, ``unchanged``, ``refused`` or ``failed``.
        text: The address of the commit or pull request, or why there is none.
    """

    repository: str
    state: str
    text: str


class Publisher:
    """Publishes to the Hub through huggingface_hub.

    Args:
        settings: How.
        sleep: Waits between tries.

    Raises:
        InputError: huggingface_hub is not installed.
    """

    def __init__(
        self, settings: PublishSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            self._hub = import_module("huggingface_hub")
        except ImportError as error:
            raise InputError(
                "publishing needs huggingface_hub", hint=install_hint("hub")
            ) from error
        if import_module("huggingface_hub.constants").HF_HUB_OFFLINE:
            raise InputError("HF_HUB_OFFLINE is set, and publishing needs the Hub")
        self._api = self._hub.HfApi()
        self._settings = settings
        self._retry = HubRetry(settings.waits, sleep)

    def publish_all(self, planned: Sequence[Publication], workers: int) -> Iterator[Outcome]:
        """Yields the outcome of each publication as it ends; those of one repository one after the other."""
        groups: dict[str, list[Publication]] = {}
        for one in planned:
            groups.setdefault(one.repository, []).append(one)
        with ThreadPoolExecutor(workers) as threads:
            waiting = [threads.submit(self._publish_group, group) for group in groups.values()]
            for done in as_completed(waiting):
                yield from done.result()

    def _publish_group(self, group: Sequence[Publication]) -> list[Outcome]:
        return [self.publish(one) for one in group]

    def publish(self, one: Publication) -> Outcome:
        """Publishes a conversion, unless its record says that the same was."""
        if _read_record(one).get("digest") == one.digest:
            return Outcome(one.repository, "unchanged", str(_read_record(one)["url"]))
        expected: tuple[type[Exception], ...] = (ValueError, *hub_errors().all)
        try:
            return self._retry(lambda: self._try(one))
        except expected as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Outcome(one.repository, "failed" if is_transient(error) else "refused", first)

    def _try(self, one: Publication) -> Outcome:
        """Publishes, after it looked again whether an earlier try did."""
        facts = self._api.model_info(one.repository)
        if reason := self._refusal(facts):
            return Outcome(one.repository, "refused", reason)
        earlier = self._pull_request(one) if self._settings.create_pr else None
        if earlier is not None and earlier.status != "open":
            return _record(
                one,
                earlier.url,
                Outcome(one.repository, "unchanged", f"{earlier.url} is {earlier.status}"),
            )
        revision = earlier.git_reference if earlier else None
        before = self._api.model_info(one.repository, revision=revision) if revision else facts
        commit = self._api.create_commit(
            one.repository,
            self._operations(one, facts, revision),
            commit_message=one.title,
            commit_description="Converted and compared by Equipoise; `equipoise.json` has the hash of every tensor.",
            revision=revision,
            create_pr=self._settings.create_pr and earlier is None,
        )
        url = str(earlier.url if earlier else commit.pr_url or commit.commit_url)
        if commit.oid == before.sha and not commit.pr_url:
            return _record(one, url, Outcome(one.repository, "unchanged", url))
        return _record(
            one, url, Outcome(one.repository, "updated" if earlier else "published", url)
        )

    def _refusal(self, facts: Any) -> str:
        """Returns why a repository is not published; empty if it is."""
        if getattr(facts, "gated", False) and not self._settings.gated:
            return "the repository is gated: --gated publishes all the same"
        card = getattr(facts, "card_data", None)
        given = getattr(card, "license", None) or next(
            (tag.partition(":")[2] for tag in facts.tags or () if tag.startswith("license:")), None
        )
        allowed = {*FREE_LICENSES, *self._settings.licenses}
        licenses = given if isinstance(given, list) else [given or "none"]
        if all(name in allowed for name in licenses):
            return ""
        shown = ", ".join(licenses)
        return f"its licence is {shown}: --license {shown} publishes all the same"

    def _pull_request(self, one: Publication) -> Any:
        """Returns the pull request of an earlier run; None if there is none."""
        found = self._api.get_repo_discussions(one.repository, discussion_type="pull_request")
        own = [pull for pull in found if pull.title.endswith(one.mark)]
        return min(own, key=lambda pull: (pull.status != "open", pull.num), default=None)

    def _operations(self, one: Publication, facts: Any, revision: str | None) -> list[Any]:
        card = ""
        if any(file.rfilename == CARD for file in facts.siblings or ()):
            path = self._hub.hf_hub_download(one.repository, CARD, revision=revision)
            card = Path(path).read_text(encoding="utf-8")
        content: dict[str, Any] = {
            **{name: str(path) for name, path in one.files.items()},
            CARD: with_section(card, one.section).encode(),
        }
        return [
            self._hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=value)
            for name, value in content.items()
        ]


def _read_record(one: Publication) -> dict[str, Any]:
    """Returns what was published; empty if nothing was."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(one.record.read_text(encoding="utf-8"))
        return found
    return {}


def _record(one: Publication, url: str, outcome: Outcome) -> Outcome:
    one.record.parent.mkdir(exist_ok=True)
    content = {"repository": one.repository, "url": url, "digest": one.digest}
    write_atomic(one.record, json.dumps(content, indent=1) + "\n")
    return outcome
