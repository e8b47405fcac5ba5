"""Collects the findings of test_families.py in the main process."""

from __future__ import annotations

import architectures_page as architectures
import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the page if ``--write-architectures`` is set."""
    config = session.config
    if not config.getoption("--write-architectures") or hasattr(config, "workerinput"):
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [one for key in ("passed", "failed") for one in reporter.stats.get(key, [])]
    architectures.write(
        value
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == architectures.SHOWN
    )
