"""The process of a fleet's worker: ``python -m equipoise.cli._fleet_worker`` runs command lines of Equipoise."""

from __future__ import annotations

from contextlib import closing

from equipoise.cli._worker_options import WarmPools
from equipoise.fleet.running.worker_loop import Tell, serve


def main() -> None:
    """Answers requests; the processes of backends stay warm from one to the next."""
    from equipoise.cli.main import run

    with closing(WarmPools()) as pools:

        def run_command(arguments: list[str], tell: Tell) -> int:
            pools.tell = tell
            return run(arguments, pool=pools)

        serve(run_command)


if __name__ == "__main__":
    main()
