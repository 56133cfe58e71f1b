"""The log of one session command: both streams in one file on the host, framed by markers."""

from __future__ import annotations

import asyncio
import os
import re
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path

STDOUT, STDERR = b"\x01\x01\x01", b"\x02\x02\x02"  # PROTOCOL.md, "Log frames"
MARKER = re.compile(STDOUT + b"|" + STDERR)
LIMIT = 256 * 1024 * 1024  # bytes kept of one command's log; what comes after is read and dropped
FRAME = 64 * 1024  # bytes of log that one message to a follower carries
LONGEST_LINE = 64 * 1024  # a longer one is passed on in parts, so that memory stays bounded
CUT = b"\n[local Daytona kept the first 256 MiB of this log]\n"


class Log:
    """Append-only; `finished` once both streams have ended."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # Not before the last reader is done: the number may be another file's by then.
        weakref.finalize(self, os.close, self._fd)
        self._size = 0
        self._cut = False
        self._grown = asyncio.Condition()
        self.finished = False

    async def append(self, marker: bytes, lines: bytes) -> None:
        """Add whole lines (or a part of a very long one) of one stream, each after its marker."""
        if self._cut or not lines:
            return
        ends = lines.endswith(b"\n")
        body = lines[:-1] if ends else lines
        framed = marker + body.replace(b"\n", b"\n" + marker) + (b"\n" if ends else b"")
        if self._size + len(framed) > LIMIT:
            framed, self._cut = STDERR + CUT.lstrip(b"\n"), True
        os.pwrite(self._fd, framed, self._size)
        self._size += len(framed)
        await self._tell()

    async def finish(self) -> None:
        self.finished = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """The framed log from its start until it is finished, cut at line ends where it has any."""
        place = 0
        while True:
            if place < self._size:
                chunk = os.pread(self._fd, min(FRAME, self._size - place), place)
                chunk = chunk[: chunk.rfind(b"\n") + 1] or chunk
                place += len(chunk)
                yield with_one_marker(chunk)
                continue
            if self.finished:
                return
            async with self._grown:
                while not self.finished and self._size <= place:
                    await self._grown.wait()

    def read(self, most: int) -> bytes:
        """The framed log so far, at most so many bytes."""
        return os.pread(self._fd, min(most, self._size), 0)


def with_one_marker(chunk: bytes) -> bytes:
    """Lines of one stream with their first marker only.

    The SDK's demultiplexer takes quadratic time in the markers of a message.
    """
    for marker, other in ((STDOUT, STDERR), (STDERR, STDOUT)):
        if chunk.startswith(marker) and other not in chunk:
            return marker + chunk[len(marker) :].replace(b"\n" + marker, b"\n")
    return chunk


def split(framed: bytes) -> tuple[bytes, bytes]:
    """(stdout, stderr) of a framed log; what stands before the first marker is dropped."""
    streams = {STDOUT: bytearray(), STDERR: bytearray()}
    current: bytearray | None = None
    place = 0
    for match in MARKER.finditer(framed):
        if current is not None:
            current += framed[place : match.start()]
        current, place = streams[match[0]], match.end()
    if current is not None:
        current += framed[place:]
    return bytes(streams[STDOUT]), bytes(streams[STDERR])
