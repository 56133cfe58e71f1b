"""Streams and bodies of a server that never comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from sandbox_kit.errors import Failure
from sandbox_kit.sdk import transport
from sandbox_kit.settings import Settings
from tests.serving import serving

LIMIT_S = 30.0  # the library waits for the closing words of a server that pings without end


async def ping_for_ever(request: web.Request) -> web.StreamResponse:
    """Something of a program's, and then nothing but pings."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_bytes(b"\x01\x01\x01text\n")
    with contextlib.suppress(ConnectionError):
        while True:
            await socket.ping()
            await asyncio.sleep(0.02)
    return socket


async def drip(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(b"x")
            await asyncio.sleep(0.02)
    return answer


def with_toolbox(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    work: Callable[[transport.Toolbox], Awaitable[None]],
) -> None:
    """Within the limit, or the test fails."""

    async def act(url: str) -> None:
        connected = transport.Transport(Settings("cloud", f"{url}/api", "", "key"))
        try:
            await asyncio.wait_for(work(connected.toolbox(url, "id")), LIMIT_S)
        finally:
            await connected.close()

    with serving(handle) as url:
        asyncio.run(act(url))


def test_output_that_nobody_takes_ends_a_stream_that_goes_on_pinging() -> None:
    """`| head -1`: the library would read on for the server's closing words."""

    def refuse(_data: bytes) -> None:
        raise Failure("interrupted", "nobody reads the output any more")

    async def follow(toolbox: transport.Toolbox) -> None:
        with pytest.raises(Failure, match="nobody reads"):
            await toolbox.follow("/logs", refuse)

    with_toolbox(ping_for_ever, follow)


@pytest.mark.parametrize("call", ["download", "read_log"])
def test_a_body_that_only_drips_is_given_up(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte would renew the wait for the next, for as long as the body may last."""
    monkeypatch.setattr(transport, "STALL_S", 0.3)

    async def read(toolbox: transport.Toolbox) -> None:
        with pytest.raises(Failure, match="too slowly"):
            await getattr(toolbox, call)("/x", len, timeout_s=1000.0)

    with_toolbox(drip, read)
