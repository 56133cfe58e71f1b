"""An output that grows in a file of the server's own, bounded, and followed while it does."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path

PART = 64 * 1024  # bytes that a follower is given at once


class FollowedLog:
    """Append-only, at most `limit` bytes and one `notice`; `finished` once nothing more comes."""

    def __init__(self, path: Path, *, limit: int, notice: bytes = b"") -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # Not before the last reader is done: the number may be another file's by then.
        weakref.finalize(self, os.close, self._fd)
        self._limit = limit
        self._notice = notice
        self._size = 0
        self._is_cut = False
        self._grown = asyncio.Condition()
        self.finished = False

    async def append(self, data: bytes) -> None:
        """Add `data` as a whole, or once the notice in its place; raises OSError of a full disk."""
        if self._is_cut or not data:
            return
        if self._size + len(data) > self._limit:
            data, self._is_cut = self._notice, True
        os.pwrite(self._fd, data, self._size)
        self._size += len(data)
        await self._tell()

    async def finish(self) -> None:
        self.finished = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """All from its start until it is finished, cut at line ends where it has any."""
        place = 0
        while True:
            if place < self._size:
                part = os.pread(self._fd, min(PART, self._size - place), place)
                part = part[: part.rfind(b"\n") + 1] or part
                place += len(part)
                yield part
            elif self.finished:
                return
            else:
                await self._wait_beyond(place)

    async def _wait_beyond(self, place: int) -> None:
        async with self._grown:
            while not self.finished and self._size <= place:
                await self._grown.wait()

    def read(self, most: int) -> bytes:
        """What there is so far, at most so many bytes from its start."""
        return os.pread(self._fd, min(most, self._size), 0)
