"""/process/interpreter: HTTP and WebSockets of interpreter contexts.

PROTOCOL.md, "Interpreter contexts", has the messages.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from ...errors import ApiError, BadPayload, SandboxGone
from ...http_json import BAD_BODY, DAEMON, Fields, answer
from .. import channel
from ..channel import Channel, first_of
from ..toolbox import Toolbox
from .service import DEFAULT, LANGUAGE, STOPPED, Context, Outcome

TIMED_OUT = 4008
FIRST_MESSAGE_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 600  # the real daemon's, where a request names none


@dataclass(frozen=True)
class Request:
    """The first message of a client."""

    code: str
    context_id: str
    envs: dict[str, str]
    timeout_s: int

    @classmethod
    def of(cls, data: str) -> Request:
        """Raises BadPayload for what is none, and the 400 without code."""
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise BadPayload("the first message must be a JSON object")
        fields = Fields(values)
        try:
            found = cls(
                fields.text("code", ""),
                fields.text("contextId", DEFAULT),
                fields.texts("envs"),
                fields.integer("timeout", RUN_TIMEOUT_S),
            )
        except ApiError as error:
            raise BadPayload(error.message) from None
        if not found.code:
            raise ApiError(400, "code is required", source=DAEMON)
        return found


async def execute(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """WS /process/interpreter/execute: one run; the close code tells how it ended.

    The run goes on when the client leaves.
    """
    channel.required(request)
    client = await Channel.accept(request)
    try:
        asked = await first_message(toolbox, client)
        if asked is None:
            return client.socket
        toolbox.environment(asked.envs, any_name=True)
        context = toolbox.contexts.find(asked.context_id)
        return await serve(client, context, asked)
    except BadPayload as error:
        return await client.close(channel.BAD_PAYLOAD, f"invalid JSON payload: {error}")
    except ApiError as error:
        return await client.close(channel.REFUSED, error.message)
    except SandboxGone as error:
        return await client.close(channel.GOING_AWAY, str(error))


async def first_message(toolbox: Toolbox, client: Channel) -> Request | None:
    """None when the client left.

    Raises the 400 when it sends something else or nothing for too long, SandboxGone.
    """
    receiving = asyncio.ensure_future(client.socket.receive())
    closing = asyncio.ensure_future(toolbox.closing.wait())
    timer = asyncio.ensure_future(asyncio.sleep(FIRST_MESSAGE_TIMEOUT_S))
    await first_of(receiving, closing, timer)
    if receiving.cancelled():
        if closing.cancelled():
            raise ApiError(400, "no request came", source=DAEMON)
        raise SandboxGone(STOPPED)
    message = receiving.result()
    if message.type == WSMsgType.TEXT:
        return Request.of(message.data)
    if message.type == WSMsgType.BINARY:
        return Request.of(message.data.decode(errors="replace"))
    return None


async def serve(client: Channel, context: Context, asked: Request) -> web.StreamResponse:
    """Run it and stream what it prints; raises the 404 or 400."""

    async def sink(stream: str, text: str) -> None:
        await client.send(json.dumps({"type": stream, "text": text}))

    listening = asyncio.create_task(client.listen(ignored))
    try:
        outcome = await context.run(asked.code, asked.envs, sink=sink, timeout_s=asked.timeout_s)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return await say_goodbye(client, outcome)


async def ignored(_data: bytes) -> None:
    """A client has nothing to say after its request."""


async def say_goodbye(client: Channel, outcome: Outcome) -> web.WebSocketResponse:
    if outcome.interrupted:
        await client.send(json.dumps({"type": "control", "text": "interrupted"}))
        return await client.close(TIMED_OUT, "the code was interrupted, as at its timeout")
    if outcome.lost:
        return await client.close(channel.GOING_AWAY, outcome.lost)
    if outcome.error is not None:
        await client.send(json.dumps({"type": "error", **outcome.error}))
    await client.send(json.dumps({"type": "control", "text": "completed"}))
    if outcome.ends:
        return await client.close(channel.GOING_AWAY, "the code ended its interpreter")
    return await client.close(channel.NORMAL)


async def create_context(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /process/interpreter/context: 200 with the context, whose interpreter runs."""
    if not request.can_read_body:
        raise ApiError(400, "a JSON body is required", code=BAD_BODY, source=DAEMON)
    fields = await Fields.of_body(request)
    language = fields.text("language", "") or LANGUAGE
    if language != LANGUAGE:
        raise ApiError(400, f"contexts run {LANGUAGE}, not {language[:100]}", source=DAEMON)
    cwd = fields.text("cwd", "") or toolbox.work_dir
    toolbox.absolute(cwd)
    return answer((await toolbox.contexts.create(cwd)).as_json())


async def list_contexts(toolbox: Toolbox, _request: web.Request) -> web.Response:
    return answer({"contexts": [context.as_json() for context in toolbox.contexts.listed()]})


async def delete_context(toolbox: Toolbox, request: web.Request) -> web.Response:
    context_id = request.match_info["context"]
    await toolbox.contexts.delete(context_id)
    return answer({"message": f"context {context_id[:100]} was deleted"})
