"""Daytona's socket.io channel: clients are told at once that a sandbox changed, without polling."""

from __future__ import annotations

import hmac
from typing import Any

import socketio  # type: ignore[import-untyped]  # ships no types
from aiohttp import web

PATH = "/api/socket.io"


class Events:
    """The socket.io server; clients show their key in the CONNECT packet.

    PROTOCOL.md, "State events", has the messages.
    """

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._server = socketio.AsyncServer(
            async_mode="aiohttp", cors_allowed_origins=[], transports=["websocket"]
        )
        self._server.on("connect", self._connect)

    def attach(self, app: web.Application) -> None:
        self._server.attach(app, socketio_path=PATH)

    async def _connect(self, _sid: str, _environ: dict[str, Any], auth: Any = None) -> bool:
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str):
            return False
        # An exception here would leave the client connected; and a lone surrogate has no UTF-8.
        shown = token.encode(errors="replace")
        return hmac.compare_digest(shown, self._api_key.encode())

    async def created(self, sandbox: dict[str, Any]) -> None:
        await self._server.emit("sandbox.created", without_env(sandbox))

    async def state_changed(self, sandbox: dict[str, Any], *, old: str) -> None:
        body = {"sandbox": without_env(sandbox), "oldState": old, "newState": sandbox["state"]}
        await self._server.emit("sandbox.state.updated", body)

    async def close(self) -> None:
        """Hang up on every client; otherwise the HTTP server waits for them."""
        for client in list(self._server.eio.sockets):
            await self._server.eio.disconnect(client)
        await self._server.shutdown()


def without_env(sandbox: dict[str, Any]) -> dict[str, Any]:
    """Nobody waits for a sandbox's variables, so they are not sent round."""
    return {**sandbox, "env": {}}
