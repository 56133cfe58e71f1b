"""The log of one session command: both streams in one file on the host, framed by markers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path

from ...followed_log import FollowedLog

STDOUT, STDERR = b"\x01\x01\x01", b"\x02\x02\x02"  # PROTOCOL.md, "Log frames"
MARKER = re.compile(STDOUT + b"|" + STDERR)
LIMIT = 256 * 1024 * 1024  # bytes kept of one command's log; what comes after is read and dropped
LONGEST_LINE = 64 * 1024  # a longer one is passed on in parts, so that memory stays bounded
CUT = b"[local Daytona kept the first 256 MiB of this log]\n"


class Log(FollowedLog):
    """Of one command: whole lines of both streams, each after its marker."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, limit=LIMIT, notice=STDERR + CUT)

    async def append_lines(self, marker: bytes, lines: bytes) -> None:
        """Add whole lines (or a part of a very long one) of one stream."""
        ends = lines.endswith(b"\n")
        body = lines[:-1] if ends else lines
        framed = marker + body.replace(b"\n", b"\n" + marker) + (b"\n" if ends else b"")
        await self.append(framed if lines else b"")

    async def follow_frames(self) -> AsyncGenerator[bytes, None]:
        """As `follow`, each part with as few markers as tell its streams apart."""
        async for part in self.follow():
            yield with_one_marker(part)


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
