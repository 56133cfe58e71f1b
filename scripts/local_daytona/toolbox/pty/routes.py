"""/process/pty: HTTP and WebSockets of terminals (PROTOCOL.md, "Terminals")."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json

from aiohttp import web

from ...errors import ApiError
from ...http_json import DAEMON, Fields, answer
from .. import channel
from ..channel import Channel, first_of
from ..toolbox import Toolbox
from .service import LARGEST_INPUT, End, Size, Terminal

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"  # of clients that understand the `exited` message
ENVIRONMENT = "X-Daytona-Pty-Envs~"  # then the variables, as base64 of JSON


async def create(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /process/pty: runs at once, or with `lazyStart` from the first connection on."""
    fields = await Fields.of_body(request)
    terminal = toolbox.terminals.add(fields, cwd=cwd_of(toolbox, fields), envs=fields.texts("envs"))
    if not terminal.lazy:
        await toolbox.terminals.start(terminal)
        terminal.follow()
    return answer({"sessionId": terminal.id}, status=201)


async def create_connect(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """WS /process/pty/create-connect?id&cols&rows&cwd: refused by HTTP status.

    The client sees the terminal's first byte too.
    """
    channel.required(request)
    query = Fields.of_query(request)
    cwd, envs = cwd_of(toolbox, query), environment_of(request)
    terminal = toolbox.terminals.add(query, cwd=cwd, envs=envs)
    try:
        await toolbox.terminals.start(terminal)
    except ApiError as error:
        return await refuse(request, error.message)
    return await attach(terminal, request)


async def connect(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """WS /process/pty/{id}/connect: an unknown one is told over the WebSocket, as the daemon does.

    The SDK takes that for an error, and an HTTP status for a failed handshake.
    """
    channel.required(request)
    try:
        terminal = toolbox.terminals.find(request.match_info["terminal"])
        await terminal.start()
    except ApiError as error:
        return await refuse(request, f"Failed to connect to PTY session: {error.message}")
    return await attach(terminal, request)


async def refuse(request: web.Request, reason: str) -> web.StreamResponse:
    """Accept, say why there is no terminal, and hang up without a word of goodbye."""
    client = await Channel.accept(request, protocol=EXIT_CONTROL)
    await client.send(json.dumps({"type": "control", "status": "error", "error": reason}))
    if request.transport is not None:
        request.transport.close()
    return client.socket


async def list_all(toolbox: Toolbox, _request: web.Request) -> web.Response:
    return answer({"sessions": [terminal.as_json() for terminal in toolbox.terminals]})


async def get(toolbox: Toolbox, request: web.Request) -> web.Response:
    return answer(toolbox.terminals.find(request.match_info["terminal"]).as_json())


async def resize(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    terminal_id = request.match_info["terminal"]
    if not toolbox.terminals.has(terminal_id):
        message = f"PTY session {terminal_id} not found"
        raise ApiError(410, message, code="SESSION_ENDED", source=DAEMON)
    terminal = toolbox.terminals.find(terminal_id)
    terminal.resize(Size.changed(fields))
    return answer(terminal.as_json())


async def kill(toolbox: Toolbox, request: web.Request) -> web.Response:
    terminal = toolbox.terminals.find(request.match_info["terminal"])
    await terminal.kill()
    return answer({"message": f"PTY session {terminal.id} was ended"})


async def attach(terminal: Terminal, request: web.Request) -> web.StreamResponse:
    """Serve one client until it leaves or the terminal ends.

    `connected` goes out first: the synchronous SDK waits for it for a tenth of a second only.
    """
    tells_exit = EXIT_CONTROL in channel.offered(request)
    try:
        client = await Channel.accept(request, protocol=EXIT_CONTROL, largest=LARGEST_INPUT)
        await client.send(json.dumps({"type": "control", "status": "connected"}))
        terminal.clients.add(client)
    finally:
        terminal.follow()
    ends = (client.listen(terminal.type), terminal.ended.wait(), client.gone.wait())
    try:
        await first_of(*map(asyncio.ensure_future, ends))
    finally:
        terminal.clients.discard(client)
    return await say_goodbye(client, terminal.end, tells_exit=tells_exit)


async def say_goodbye(
    client: Channel, end: End | None, *, tells_exit: bool
) -> web.WebSocketResponse:
    """The exit code stands in the close reason; where `tells_exit`, in a message before too."""
    if end is None:
        return await client.close(channel.NORMAL)
    if end.exit_code is None:
        return await client.close(channel.GOING_AWAY, end.reason)
    if tells_exit:
        told = {"type": "control", "status": "exited", **end.as_json()}
        if end.reason:
            told["exitReason"] = f"({end.reason})"
        await client.send(json.dumps(told))
    code = channel.NORMAL if end.exit_code == 0 else channel.FAILED
    return await client.close(code, json.dumps(end.as_json()))


def cwd_of(toolbox: Toolbox, fields: Fields) -> str:
    return toolbox.absolute(fields.text("cwd", "") or toolbox.work_dir)


def environment_of(request: web.Request) -> dict[str, str]:
    """The variables among the offered subprotocols; raises the 400 for what is none."""
    found = [offer for offer in channel.offered(request) if offer.startswith(ENVIRONMENT)]
    if not found:
        return {}
    text = found[0].removeprefix(ENVIRONMENT)
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        message = f"{ENVIRONMENT} must be followed by base64 of a JSON object"
        raise ApiError(400, message, source=DAEMON) from None
    return Fields({"envs": values}).texts("envs")
