"""HTTP of sessions (PROTOCOL.md, "Sessions" and "Log frames")."""

from __future__ import annotations

import asyncio
import contextlib
import random

from aiohttp import WSCloseCode, web

from ...errors import ApiError
from ...http_json import BAD_BODY, Fields, answer, nothing
from ...long_answers import answer_long
from .. import channel
from ..channel import Channel
from ..toolbox import Toolbox
from .service import ENTRYPOINT, Command, Session, logs_json, refuse_entrypoint

Json = dict[str, object]


async def create(toolbox: Toolbox, request: web.Request) -> web.Response:
    await toolbox.sessions.create((await Fields.of_body(request)).text("sessionId"))
    return nothing(201)


async def list_all(toolbox: Toolbox, _request: web.Request) -> web.Response:
    listed = [session for session in toolbox.sessions if session.id != ENTRYPOINT]
    return answer(shuffled([session_json(session.id, session.commands) for session in listed]))


async def get(toolbox: Toolbox, request: web.Request) -> web.Response:
    session = toolbox.sessions.find(request.match_info["session"])
    return answer(session_json(session.id, session.commands))


async def entrypoint(toolbox: Toolbox, _request: web.Request) -> web.Response:
    """There is one also where the snapshot has no program of its own; it is empty."""
    command = toolbox.sessions.entrypoint()
    return answer(session_json(ENTRYPOINT, {} if command is None else {command.id: command}))


async def entrypoint_logs(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """Without a program empty, and complete for whoever follows it."""
    command = toolbox.sessions.entrypoint()
    if command is not None:
        return await logs_of(toolbox, command, request)
    if not Fields.of_query(request).boolean("follow"):
        return answer(dict.fromkeys(("output", "stdout", "stderr"), ""))
    channel.required(request)
    return await (await Channel.accept(request)).close(channel.NORMAL)


async def delete(toolbox: Toolbox, request: web.Request) -> web.Response:
    await toolbox.sessions.delete(request.match_info["session"])
    return nothing(204)


async def execute(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """202 with only the id for an asynchronous command, else 200 with its logs and exit code."""
    fields = await Fields.of_body(request)
    text = fields.text("command")
    if not text.strip():
        raise ApiError(400, "command is required")
    later = fields.boolean("runAsync") or fields.boolean("async")
    session = toolbox.sessions.to_run_in(request.match_info["session"])
    command = await session.run(text, wait=not later, echo=not fields.boolean("suppressInputEcho"))
    if later:
        return answer({"cmdId": command.id}, status=202)
    await session.wait(command)
    logs = await asyncio.to_thread(logs_json, command)
    return await answer_long(request, {"cmdId": command.id, "exitCode": command.exit_code, **logs})


async def get_command(toolbox: Toolbox, request: web.Request) -> web.Response:
    _, command = found_command(toolbox, request)
    return answer(command.as_json())


async def send_input(toolbox: Toolbox, request: web.Request) -> web.Response:
    data = (await Fields.of_body(request)).text("data")
    refuse_entrypoint(request.match_info["session"], "can't send input to entrypoint session")
    if not data:
        raise ApiError(400, "data is required", code=BAD_BODY)
    session, command = found_command(toolbox, request)
    await session.send_input(command, data)
    return nothing(204)


async def command_logs(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """JSON of what there is; with `follow=true` all there is and that comes, over a WebSocket."""
    _, command = found_command(toolbox, request)
    return await logs_of(toolbox, command, request)


async def logs_of(toolbox: Toolbox, command: Command, request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(heartbeat=30)
    if not socket.can_prepare(request):  # also with follow=true: what there is until now
        return await answer_long(request, await asyncio.to_thread(logs_json, command))
    await socket.prepare(request)
    if Fields.of_query(request).boolean("follow"):
        await follow(toolbox, command, socket)
    else:
        await socket.close(code=WSCloseCode.OK)
    return socket


async def follow(toolbox: Toolbox, command: Command, socket: web.WebSocketResponse) -> None:
    """Send until the log ends, the client leaves, or the sandbox ends.

    Close code 1000 says that the log is complete.
    """
    sender = asyncio.create_task(send_log(command, socket))
    receiver = asyncio.create_task(until_closed(socket))
    ended = asyncio.create_task(toolbox.closing.wait())
    try:
        await asyncio.wait((sender, receiver, ended), return_when=asyncio.FIRST_COMPLETED)
        complete = sender.done() and not sender.exception()
    finally:
        for task in (sender, receiver, ended):
            task.cancel()
        await asyncio.gather(sender, receiver, ended, return_exceptions=True)
    await socket.close(code=WSCloseCode.OK if complete else WSCloseCode.GOING_AWAY)


async def send_log(command: Command, socket: web.WebSocketResponse) -> None:
    async with contextlib.aclosing(command.log.follow_frames()) as parts:
        async for part in parts:
            await socket.send_bytes(part)


async def until_closed(socket: web.WebSocketResponse) -> None:
    """Read and drop: reading is what answers pings and notices that the client left."""
    async for _ in socket:
        pass


def found_command(toolbox: Toolbox, request: web.Request) -> tuple[Session, Command]:
    path = request.match_info
    return toolbox.sessions.find_command(path["session"], path["command"])


def session_json(session_id: str, commands: dict[str, Command]) -> dict[str, object]:
    shown = [command.as_json() for command in commands.values()]
    return {"sessionId": session_id, "commands": shuffled(shown)}


def shuffled(listed: list[Json]) -> list[Json]:
    """The daemon lists a map, in no order: whoever relies on one is to notice it here."""
    return random.sample(listed, len(listed))
