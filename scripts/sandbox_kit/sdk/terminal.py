"""A terminal of a sandbox over the toolbox's WebSocket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from ..checked import checked_exit_code
from ..errors import Failure
from .loading import translating_errors

if TYPE_CHECKING:
    from .transport import Toolbox

REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class TerminalSize:
    """In characters."""

    cols: int
    rows: int


class Terminal:
    """One that is open, until its shell ends or the connection does."""

    def __init__(
        self, toolbox: Toolbox, terminal_id: str, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._toolbox = toolbox
        self._id = terminal_id
        self._socket = socket

    async def send(self, data: bytes) -> None:
        with translating_errors("typing into the terminal"):
            await self._socket.send_bytes(data)

    async def resize(self, size: TerminalSize) -> None:
        from daytona_toolbox_api_client_async.models.pty_resize_request import PtyResizeRequest

        with translating_errors("resizing the terminal"):
            await self._toolbox.process.resize_pty_session(
                self._id,
                PtyResizeRequest(cols=size.cols, rows=size.rows),
                _request_timeout=REQUEST_TIMEOUT_S,
            )

    async def read_until_end(self, show: Callable[[bytes], None]) -> int:
        """The shell's exit code; raises Failure when the connection ended before it did."""
        told: dict[str, Any] = {}
        with translating_errors("reading the terminal"):
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    show(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    control = control_message(message.data)
                    if control is None:
                        show(message.data.encode("utf-8", "replace"))
                    told = control or told
        if told.get("status") == "exited" and "exitCode" in told:
            return checked_exit_code(told["exitCode"])
        raise Failure(
            "network",
            "the terminal's connection ended before its shell",
            fix="open it again: a sandbox that still runs has its files",
        )


def control_message(text: str) -> dict[str, Any] | None:
    """What the server says beside the shell's output; None for output."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("type") == "control" else None
