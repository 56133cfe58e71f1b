"""The guard that keeps tests on this machine."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.conftest import LeftTheMachine

ELSEWHERE = "192.0.2.1"  # a documentation address (RFC 5737): nobody is there


def test_another_host_is_refused() -> None:
    """By the plain client, and before a packet is sent."""
    with pytest.raises(LeftTheMachine, match=ELSEWHERE):
        socket.create_connection((ELSEWHERE, 443), timeout=1)


def test_the_loops_own_connect_is_guarded_too() -> None:
    """aiohttp, and so AsyncDaytona, connects through the event loop."""
    with pytest.raises(LeftTheMachine):
        asyncio.run(asyncio.wait_for(asyncio.open_connection(ELSEWHERE, 443), 1))


def test_loopback_is_let_through() -> None:
    """The local server lives there."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()
