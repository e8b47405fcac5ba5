"""Stands in for a worker: what it does is the command of each request."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from equipoise.fleet.running.worker_loop import Tell, serve


def run(arguments: list[str], tell: Tell) -> int:
    """Answers a request, or dies of it."""
    what, *rest = arguments
    tell(f"doing {what}")
    if what == "die":
        print("out of luck", file=sys.__stderr__, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(7)
    if what == "sleep":
        time.sleep(60)
    print(json.dumps({"said": rest, "pid": os.getpid(), "environment": dict(os.environ)}))
    return 0


if __name__ == "__main__":
    serve(run)
