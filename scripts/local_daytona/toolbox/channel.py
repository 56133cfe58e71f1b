"""A WebSocket with a client that may stall or leave at any time, for terminals and interpreters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, hdrs, web

from ..errors import ApiError
from ..http_json import DAEMON

# How long a program waits for a client that takes nothing, before it runs on without that client.
PATIENCE_S = 30.0
CLOSE_S = 2.0  # for the client's half of the closing handshake
HEARTBEAT_S = 30.0
LARGEST_MESSAGE = 16 * 1024 * 1024
LONGEST_REASON = 123  # bytes, by RFC 6455

NORMAL = 1000
GOING_AWAY = 1001
BAD_PAYLOAD = 1002
REFUSED = 1008
FAILED = 1011


class Channel:
    """One accepted client. Sending never fails: `gone` is set once there is nobody to send to."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.gone = asyncio.Event()

    @classmethod
    async def accept(
        cls, request: web.Request, *, protocol: str = "", largest: int = LARGEST_MESSAGE
    ) -> Channel:
        """Upgrade the request, which required() let through.

        `protocol` is chosen if it was offered, else any that was. A message of more than `largest`
        bytes ends the connection.
        """
        choices = offered(request)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            timeout=CLOSE_S,
            max_msg_size=largest,
            compress=False,
            protocols=(protocol,) if protocol in choices else choices,
        )
        await socket.prepare(request)
        return cls(socket)

    async def send(self, data: bytes | str) -> None:
        """Wait until the client has taken most of what it was sent, within reason."""
        if self.gone.is_set():
            return
        if isinstance(data, bytes):
            sending = self.socket.send_bytes(data)
        else:
            sending = self.socket.send_str(data)
        try:
            await asyncio.wait_for(sending, PATIENCE_S)
        except (asyncio.TimeoutError, ConnectionError, RuntimeError):
            self.gone.set()

    async def listen(self, hear: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand on what the client sends, until it leaves.

        Someone must read, or its pings stay unanswered.
        """
        async for message in self.socket:
            if message.type == WSMsgType.BINARY:
                await hear(message.data)
            elif message.type == WSMsgType.TEXT:
                await hear(message.data.encode(errors="replace"))
        self.gone.set()

    async def close(self, code: int, reason: str = "") -> web.WebSocketResponse:
        """Say goodbye, if there is someone to hear it."""
        message = reason.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore").encode()
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.close(code=code, message=message)
        return self.socket


def required(request: web.Request) -> None:
    """Raises the 400 for a request that is no WebSocket's."""
    if not web.WebSocketResponse(protocols=offered(request)).can_prepare(request):
        raise ApiError(400, "this path needs a WebSocket", source=DAEMON)


def offered(request: web.Request) -> tuple[str, ...]:
    """The client's subprotocols.

    Where none of them is chosen, aiohttp logs them all, and some hold variables.
    """
    text = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()))
    return tuple(part.strip() for part in text.split(",") if part.strip())


async def first_of(*waiting: asyncio.Future[Any]) -> None:
    """Until one is done; the others are cancelled."""
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
