"""Has the operating system begin to write the pages of a file to disk."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

_SYNC_FILE_RANGE_WRITE = 2


def start_writeback(path: Path, offset: int, nbytes: int) -> None:
    """Begins to write a range of a file to disk, where the system can; waits for nothing and promises nothing.

    Only a later ``fsync`` makes the bytes durable; it has less left to do.
    """
    call = _sync_file_range()
    if call is None:
        return
    descriptor = os.open(path, os.O_WRONLY)
    try:
        call(descriptor, offset, nbytes, _SYNC_FILE_RANGE_WRITE)
    finally:
        os.close(descriptor)


@cache
def _sync_file_range() -> Any:
    """Returns Linux's ``sync_file_range``, which Python has no function for; None elsewhere."""
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint)
    return call
