"""The socket.io channel: state waits of the SDK end by event, not by the next poll."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]  # ships no types

from .conftest import LocalServer

URL_PATH = "/api/socket.io"


async def connect(server: LocalServer, *, token: str) -> tuple[socketio.AsyncClient, asyncio.Queue[Any]]:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client = socketio.AsyncClient()
    for name in ("sandbox.created", "sandbox.state.updated"):
        client.on(name, lambda data, name=name: heard.put_nowait((name, data)))
    await client.connect(server.url, auth={"token": token}, transports=["websocket"], socketio_path=URL_PATH)
    return client, heard


def test_every_change_of_state_is_told(server: LocalServer) -> None:
    """The SDK's waits match on sandbox.id and newState."""

    async def run() -> list[tuple[str, str]]:
        client, heard = await connect(server, token=server.api_key)
        created = await asyncio.to_thread(server.create)
        await asyncio.to_thread(server.request, "POST", f"/api/sandbox/{created['id']}/stop")
        await asyncio.to_thread(server.request, "DELETE", f"/api/sandbox/{created['id']}")
        told: list[tuple[str, str]] = []
        while not told or told[-1][1] != "destroyed":
            name, data = await asyncio.wait_for(heard.get(), 10)
            assert data.get("sandbox", data)["id"] == created["id"]
            told.append((name, data.get("newState", "")))
        await client.disconnect()
        return told

    told = asyncio.run(run())

    assert ("sandbox.created", "") in told
    assert [state for _, state in told if state] == ["started", "stopping", "stopped", "destroying", "destroyed"]


def test_a_wrong_token_is_refused(server: LocalServer) -> None:
    """Names and labels of sandboxes are not for everybody on this machine."""

    async def run() -> None:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await connect(server, token="wrong")

    asyncio.run(run())
