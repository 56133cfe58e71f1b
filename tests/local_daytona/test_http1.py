"""HTTP heads and the ends of bodies, as previews read them."""

from __future__ import annotations

import asyncio

import pytest

from local_daytona import http1
from local_daytona.errors import BadHead

CHUNKED = b"4;name=value\r\nwiki\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_a_chunked_body_ends_at_its_last_byte_however_it_is_cut(step: int) -> None:
    """What follows it is another request, which must not go inside."""
    body, taken = http1.Chunked(), 0
    data = CHUNKED + NEXT
    for start in range(0, len(data), step):
        taken += body.feed(data[start : start + step])

    assert (body.done, taken) == (True, len(CHUNKED))


@pytest.mark.parametrize(
    "line", [b"zz\r\n", b"-1\r\n", b"0x4\r\n", b"\r\n", b"1" * 20 + b"\r\n", b"1;" + b"x" * 5000]
)
def test_a_chunk_without_a_plain_length_is_refused(line: bytes) -> None:
    """Python's int() reads more than HTTP allows, and an endless line must not be kept."""
    with pytest.raises(BadHead):
        http1.Chunked().feed(line)


def test_a_sized_body_takes_no_more_than_its_size() -> None:
    """The rest is not its own."""
    body = http1.Sized(5)

    assert (body.feed(b"abc"), body.done, body.feed(b"def"), body.done) == (3, False, 2, True)


def test_headers_for_the_neighbour_are_dropped_and_framing_cannot_be_named_away() -> None:
    """A Connection header may list others to drop, but not those that say where the body ends."""
    kept = http1.end_to_end(
        (
            ("connection", "close, X-Hop, Content-Length"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("x-own", "2"),
            ("te", "x"),
        )
    )

    assert kept == (("content-length", "3"), ("x-own", "2"))


@pytest.mark.parametrize(
    ("connection", "upgrade", "wanted"),
    [
        ("keep-alive, Upgrade", "WebSocket", True),
        ("close", "websocket", False),
        ("upgrade", "h2c", False),
        ("upgrade", "websocket, h2c", False),
    ],
)
def test_only_a_websocket_is_an_upgrade(connection: str, upgrade: str, wanted: bool) -> None:
    """h2c would be a second protocol past every check."""
    request = http1.Request("GET", "/", "1.1", (("connection", connection), ("upgrade", upgrade)))

    assert request.is_upgrade is wanted


def test_a_head_without_end_is_refused() -> None:
    """Lines without number fill no memory."""

    async def read() -> list[str]:
        reader = asyncio.StreamReader(limit=http1.HEAD_LIMIT)
        reader.feed_data(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000)
        return await http1.read_lines(reader)

    with pytest.raises(BadHead):
        asyncio.run(read())
