"""The framed log of a session command."""

from __future__ import annotations

import asyncio
from pathlib import Path

from local_daytona.toolbox.sessions.log import LIMIT, STDERR, STDOUT, Log, split, with_one_marker


def test_every_line_is_framed_by_its_stream(tmp_path: Path) -> None:
    """The raw log is what `output` shows, as in the real daemon."""

    async def run() -> bytes:
        log = Log(tmp_path / "log")
        await log.append_lines(STDOUT, b"a\nb\n")
        await log.append_lines(STDERR, b"c\n")
        return log.read(10**9)

    assert asyncio.run(run()) == b"\x01\x01\x01a\n\x01\x01\x01b\n\x02\x02\x02c\n"


def test_split_takes_the_streams_apart_again() -> None:
    """What stands before the first marker is dropped, as the SDK drops it."""
    assert split(b"lost\x01\x01\x01a\n\x02\x02\x02b\n\x01\x01\x01c\n") == (b"a\nc\n", b"b\n")
    assert split(b"") == (b"", b"")


def test_many_short_lines_are_split_in_one_pass() -> None:
    """Empty lines of one stream do not hold the server up.

    400 KB of them once did for minutes: each line looked for the other stream's marker.
    """
    framed = (STDOUT + b"\n") * 1_000_000

    assert split(framed) == (b"\n" * 1_000_000, b"")


def test_a_follower_sees_what_is_written_after_it_came(tmp_path: Path) -> None:
    """And ends when the log does."""

    async def run() -> bytes:
        log = Log(tmp_path / "log")
        await log.append_lines(STDOUT, b"first\n")

        async def collect() -> bytes:
            return b"".join([part async for part in log.follow_frames()])

        follower = asyncio.create_task(collect())
        await asyncio.sleep(0)
        await log.append_lines(STDERR, b"second\n")
        await log.finish()
        return await follower

    assert split(asyncio.run(run())) == (b"first\n", b"second\n")


def test_lines_of_one_stream_travel_under_one_marker() -> None:
    """The SDK's demultiplexer is quadratic in markers: 100,000 lines took 9 s, now 12 ms."""
    assert with_one_marker(STDOUT + b"a\n" + STDOUT + b"b\n") == STDOUT + b"a\nb\n"
    mixed = STDOUT + b"a\n" + STDERR + b"b\n"
    assert with_one_marker(mixed) == mixed
    cut = with_one_marker(b"middle of a line\n" + STDOUT + b"a\n")
    assert cut == b"middle of a line\n" + STDOUT + b"a\n"


def test_a_flood_is_cut_with_a_notice(tmp_path: Path) -> None:
    """The host's disk is not the sandbox's to fill."""

    async def run() -> tuple[int, bytes]:
        log = Log(tmp_path / "log")
        for _ in range(LIMIT // 2**24 + 2):
            await log.append_lines(STDOUT, b"x" * 2**24 + b"\n")
        return (tmp_path / "log").stat().st_size, log.read(10**9)[-100:]

    size, end = asyncio.run(run())

    assert size <= LIMIT + 100
    assert end.endswith(b"[local Daytona kept the first 256 MiB of this log]\n")
