"""The socket.io channel: state waits of the SDK end by event, not by the next poll."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]  # ships no types

from local_daytona.api import events
from tests.local_server import LocalServer, running_server

URL_PATH = "/api/socket.io"


async def connect(
    server: LocalServer, *, token: str
) -> tuple[socketio.AsyncClient, asyncio.Queue[Any]]:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    client = socketio.AsyncClient()
    for name in ("sandbox.created", "sandbox.state.updated"):
        client.on(name, lambda data, name=name: heard.put_nowait((name, data)))
    await client.connect(
        server.url, auth={"token": token}, transports=["websocket"], socketio_path=URL_PATH
    )
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
    assert [state for _, state in told if state] == [
        "started",
        "stopping",
        "stopped",
        "destroying",
        "destroyed",
    ]


def test_variables_of_a_sandbox_are_not_sent_round(server: LocalServer) -> None:
    """They may be secrets, and nobody waits for them."""

    async def run() -> str:
        client, heard = await connect(server, token=server.api_key)
        created = await asyncio.to_thread(server.create, env={"A": "hunter22"})
        await asyncio.to_thread(server.request, "DELETE", f"/api/sandbox/{created['id']}")
        told: list[tuple[str, Any]] = []
        while not told or told[-1][1].get("newState") != "destroyed":
            told.append(await asyncio.wait_for(heard.get(), 10))
        await client.disconnect()
        return str(told)

    assert "hunter22" not in asyncio.run(run())


def test_a_token_that_is_no_text_is_refused(server: LocalServer) -> None:
    """A lone surrogate made the check itself fail, and the client stayed connected."""

    async def run() -> list[str]:
        address = server.url.replace("http", "ws") + "/api/socket.io/?EIO=4&transport=websocket"
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
            await socket.receive_str()
            await socket.send_str('40{"token":"\\ud800"}')
            refused = await asyncio.wait_for(socket.receive(), 10)
            created = await asyncio.to_thread(server.create)
            await asyncio.to_thread(server.request, "DELETE", f"/api/sandbox/{created['id']}")
            heard = [str(refused.data)]
            with contextlib.suppress(asyncio.TimeoutError):
                while True:
                    message = await asyncio.wait_for(socket.receive(), 0.5)
                    if message.type != aiohttp.WSMsgType.TEXT:
                        break
                    heard.append(message.data)
            return heard

    heard = asyncio.run(run())

    assert heard[0].startswith("44")
    assert not any("sandbox" in text for text in heard)


@pytest.mark.parametrize("token", ["wrong", "", "\u00e9"])
def test_a_wrong_token_is_refused(server: LocalServer, token: str) -> None:
    """Names and labels of sandboxes are not for everybody on this machine."""

    async def run() -> None:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await connect(server, token=token)

    asyncio.run(run())


SENSELESS = ("40" + "[" * 100_000, "42" + '{"a":' * 50_000, "4", "9", '451-["x"', b"\x04")


def test_senseless_messages_fill_no_log_and_hold_no_end(state_dir: Path) -> None:
    """Whoever reaches the port may send them, without a key, and go away in the middle."""

    async def send_all(server: LocalServer) -> None:
        address = f"{server.url}{URL_PATH}/?EIO=4&transport=websocket"
        async with aiohttp.ClientSession() as session:
            for text in SENSELESS:
                async with session.ws_connect(address) as channel:
                    await channel.receive(timeout=10)
                    await (channel.send_bytes if isinstance(text, bytes) else channel.send_str)(
                        text  # type: ignore[arg-type]  # each takes its own
                    )

    with running_server(state_dir) as server:
        asyncio.run(send_all(server))
    log = (state_dir / "server.log").read_text()

    assert "Traceback" not in log
    assert "serving at" in log


def test_a_client_that_went_away_holds_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library then waits for ever for a queue that nobody empties."""
    monkeypatch.setattr(events, "CLOSE_TIMEOUT_S", 0.05)

    async def run() -> None:
        channel = events.Events("key")

        async def never(_client: str) -> None:
            await asyncio.sleep(1000)

        channel._server.eio.sockets["gone"] = object()
        channel._server.eio.disconnect = never
        await asyncio.wait_for(channel.close(), 10)

    asyncio.run(run())
