"""The verdict of a line has a colour, the rest of the line has none, and strangers' escapes stay visible."""

from __future__ import annotations

import click
import pytest

from equipoise.cli import _output


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(click, "echo", lambda text, err: lines.append(text))
    return lines


def test_a_verdict_has_a_color(printed: list[str]) -> None:
    _output.echo("failed (failed)  failed  1.0", colored="failed", color="red")
    assert printed == ["failed (failed)  \x1b[31mfailed\x1b[0m  1.0"]


def test_escapes_of_names_are_shown(printed: list[str]) -> None:
    _output.echo("a\x1b[2J  diverged", colored="diverged", color="red")
    assert printed == ["a\\x1b[2J  \x1b[31mdiverged\x1b[0m"]


def test_no_color(printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    _output.echo("diverged", colored="diverged", color="red")
    _output.echo("not run", colored="not run", color=None)
    assert printed == ["diverged", "not run"]
