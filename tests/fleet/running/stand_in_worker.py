"""Stands in for a worker: what it does is the first argument of each request."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    """Answers requests, or dies of them."""
    for line in sys.stdin:
        what, *rest = json.loads(line)["arguments"]
        if what == "die":
            print("out of luck", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "leave":
            sys.exit(7)
        if what == "sleep":
            time.sleep(60)
        print(
            json.dumps({"said": rest, "pid": os.getpid(), "environment": dict(os.environ)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
