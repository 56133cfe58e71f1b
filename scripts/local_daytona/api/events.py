"""Daytona's socket.io channel: clients are told at once that a sandbox changed, without polling."""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Any

import socketio  # type: ignore[import-untyped]  # ships no types
from aiohttp import web

PATH = "/api/socket.io"
CLOSE_TIMEOUT_S = 1.0
SENSELESS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Events:
    """The socket.io server; clients show their key in the CONNECT packet.

    PROTOCOL.md, "State events", has the messages.
    """

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._server = socketio.AsyncServer(
            async_mode="aiohttp",
            cors_allowed_origins=[],
            transports=["websocket"],
            engineio_logger=quiet_logger(),
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
        """Hang up on every client; otherwise the HTTP server waits for them.

        The library waits for ever for one that went away at the wrong moment.
        """
        leaving = [
            asyncio.ensure_future(self._server.eio.disconnect(client))
            for client in list(self._server.eio.sockets)
        ]
        if leaving:
            await asyncio.wait(leaving, timeout=CLOSE_TIMEOUT_S)
        await self._server.shutdown()


def quiet_logger() -> logging.Logger:
    """The library's: who sends what is no message, without a key, shall not fill the log."""
    logger = logging.getLogger(f"{__name__}.messages")
    logger.setLevel(logging.ERROR)
    logger.addFilter(is_own_failure)
    return logger


def is_own_failure(record: logging.LogRecord) -> bool:
    """Whether it is none of what reading a senseless message raises."""
    return not (record.exc_info and isinstance(record.exc_info[1], SENSELESS))


def without_env(sandbox: dict[str, Any]) -> dict[str, Any]:
    """Nobody waits for a sandbox's variables, so they are not sent round."""
    return {**sandbox, "env": {}}
