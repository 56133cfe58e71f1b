"""A few megabytes of the disk that are kept for a start, so that a full disk can be emptied."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .limits import MIB
from .usage import free_disk

SIZE = 16 * MIB
PLENTY = 4 * SIZE  # below it the disk keeps what it has left for others


class Reserve:
    """One file that holds the blocks; freed by a server that starts on a full disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_needed(self) -> bool:
        return free_disk(self._path.parent) < SIZE

    def free(self) -> None:
        self._path.unlink(missing_ok=True)

    def fill(self) -> None:
        """Make it, or make it again, where there is room for it."""
        with contextlib.suppress(OSError):  # somebody was faster; the next time then
            if not self._path.exists() and free_disk(self._path.parent) > PLENTY:
                fresh = self._path.with_suffix(".new")
                with open(fresh, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, SIZE)
                fresh.rename(self._path)
