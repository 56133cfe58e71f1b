"""Moving bytes between two sockets with flat memory: bounded heads, bodies, half-closed tunnels."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from ..errors import BadHead, Refused
from ..http1 import Body

CHUNK = 64 * 1024
LARGEST_HEAD = 32 * 1024
HALF_CLOSED_IDLE_S = 300.0  # one side has ended: it may be gone, and nobody would tell us
LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024


class Incoming:
    """What arrives on a socket, with the bytes that were read too far."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._held = b""
        self._loop = asyncio.get_running_loop()

    async def some(self, most: int = CHUNK) -> bytes:
        """At least one byte, at most `most`; nothing at the end."""
        if not self._held:
            return await self._loop.sock_recv(self._source, most)
        data, self._held = self._held[:most], self._held[most:]
        return data

    async def until(self, end: bytes, limit: int) -> bytes:
        """All up to and including `end`.

        Raises Refused (431) when it is longer than `limit`, EOFError when `end` never comes.
        """
        data = bytearray()
        while (place := data.find(end)) < 0:
            if len(data) > limit:
                raise Refused(431, "the request's head is too long")
            more = await self.some()
            if not more:
                raise EOFError
            data += more
        self._held = bytes(data[place + len(end) :]) + self._held
        return bytes(data[: place + len(end)])

    def put_back(self, data: bytes) -> None:
        """What was read too far comes next."""
        self._held = data + self._held


class Pipe:
    """One direction of a connection; `moved` counts its bytes."""

    def __init__(self, source: Incoming, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self.moved = 0

    async def run(self) -> None:
        """Until the source ends, which the sink is told."""
        while data := await self._source.some():
            await self.send(data)
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        """Send all, and give way: sockets that are always ready would block the loop."""
        await self._loop.sock_sendall(self._sink, data)
        self.moved += len(data)
        await asyncio.sleep(0)

    async def body(self, body: Body) -> None:
        """A request's body and not one byte more; raises EOFError or Refused."""
        while not body.done:
            data = await self._source.some()
            if not data:
                raise EOFError
            try:
                taken = body.feed(data)
            except BadHead as error:
                raise Refused(400, f"the body is malformed: {error}") from None
            self._source.put_back(data[taken:])
            await self.send(data[:taken])


async def tunnel(
    client: Incoming, client_socket: socket.socket, server: Incoming, server_socket: socket.socket
) -> None:
    """Both directions until both have ended, or one failed."""
    pipes = [Pipe(client, server_socket), Pipe(server, client_socket)]
    tasks = [asyncio.create_task(pipe.run()) for pipe in pipes]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not any(task.exception() for task in done):
            for task, pipe in zip(tasks, pipes, strict=True):
                await while_moving(task, pipe)
    finally:
        await end(tasks)


async def exchange(
    client: Incoming, client_socket: socket.socket, server_socket: socket.socket, *, body: Body
) -> None:
    """One request's body out and its answer back.

    What a client sends after the body ends it: that would be another request, which nobody checked.
    """
    pipe = Pipe(Incoming(server_socket), client_socket)
    answer = asyncio.create_task(pipe.run())
    question = asyncio.create_task(_question(client, server_socket, body))
    try:
        await asyncio.wait([answer, question], return_when=asyncio.FIRST_COMPLETED)
        if question.done() and may_be_answered(question):
            await while_moving(answer, pipe)
    finally:
        await end([answer, question])


async def _question(client: Incoming, server: socket.socket, body: Body) -> bool:
    """Whether the client sent more than its request."""
    await Pipe(client, server).body(body)
    return bool(await client.some())


def may_be_answered(question: asyncio.Task[bool]) -> bool:
    """The client only closed its side, or the server stopped listening before the body's end."""
    error = question.exception()
    return isinstance(error, OSError) if error else not question.result()


async def while_moving(task: asyncio.Task[None], pipe: Pipe) -> None:
    """Until `task` is done, or its pipe moved nothing for a long time."""
    moved = -1
    while not task.done() and pipe.moved != moved:
        moved = pipe.moved
        await asyncio.wait([task], timeout=HALF_CLOSED_IDLE_S)


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs; no outcome matters any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def say_goodbye(client: socket.socket, data: bytes) -> None:
    """Send a last answer so that it arrives.

    Closing with unread bytes would reset the connection before the answer is read.
    """
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(_say_and_drain(client, data), LINGER_S)


async def _say_and_drain(client: socket.socket, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, data)
    client.shutdown(socket.SHUT_WR)
    left = LINGER_BYTES
    while left > 0 and (more := await loop.sock_recv(client, CHUNK)):
        left -= len(more)
