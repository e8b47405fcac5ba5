"""Executors of a fleet's jobs: the modules of this folder and entry points of the group ``equipoise.executors``."""

from __future__ import annotations

from equipoise.convert.core.plugins import PluginFolder

EXECUTORS = PluginFolder(__name__, group="equipoise.executors", attribute="EXECUTOR")
