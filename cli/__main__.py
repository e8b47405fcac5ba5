"""``python -m equipoise.cli``."""

from equipoise.cli.main import main

main()
