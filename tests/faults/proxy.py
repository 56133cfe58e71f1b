"""A proxy that passes everything on, but for the faults it is told to inject."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.serving import serving

DELAY_S = 0.3
LATE_S = 4.0  # longer than a client of the sweep waits for an answer
ANSWERS = {
    "null": "null",
    "list": "[]",
    "deep": "[" * 200_000 + "]" * 200_000,
    "huge": '{"id": "' + "x" * (17 << 20) + '"}',
}
HOP_HEADERS = {
    "host",
    "connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "keep-alive",
    "upgrade",
}


@dataclass
class Fault:
    """What happens to requests that match `method` and `path`.

    To all of them, to the first `times` of them, or to request number `at` alone.

    `action` is a status code to answer, the name of a signal that this process gets when the
    request comes, before it is passed on, or one of:

    - "drop-before": the server never sees it; "drop-after": it acted, the answer is lost
    - "garbage": an answer that is not JSON; "endless": an error whose body never ends
    - "unknown": it acted, and answers with a status that the SDK has no type for
    - "elsewhere": a redirect to another origin
    - "cut": a WebSocket that is closed after its first message, half an answer otherwise
    - "delay"; "ignored": a change that is answered as if it were made
    - "late": it acted, and the answer comes when nobody waits for it any more
    - "foreign": it acted, and answers with somebody else's sandbox
    - "stale": it acted, and a replica answers that knows nothing of it
    - "drip": an answer that comes byte by byte without end; a WebSocket that only pings
    - "flood": an answer that never ends
    - "null", "list", "deep", "huge": it acted, and answers with such JSON
    """

    method: str
    path: str
    action: int | str
    times: int = 10**6
    at: int | None = None
    message: str = "injected"
    hits: int = 0

    def takes(self, method: str, path: str, number: int) -> bool:
        if (
            self.at not in (None, number)
            or self.hits >= self.times
            or not re.fullmatch(self.method, method)
            or not re.fullmatch(self.path, path)
        ):
            return False
        self.hits += 1
        return True


@dataclass
class Proxy:
    """A running proxy; `seen` lists what came, in order."""

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    started: list[bytes] = field(
        default_factory=list
    )  # bodies that reached the server and start a program in a session
    created: list[bytes] = field(default_factory=list)  # bodies of creates that came
    busy: int = 0  # requests under way: one may still reach the server when its client is dead
    number: int = 0  # of requests so far, the event channel's left out
    kill: Callable[[int], None] = lambda _number: None  # what a signal's name does

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    def count(self, method: str, path: str) -> int:
        return sum(1 for got, where in self.seen if got == method and re.fullmatch(path, where))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._handle(request)
        self.busy += 1
        try:
            return await self._handle(request)
        finally:
            self.busy -= 1

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        if "socket.io" not in request.path:
            self.number += 1
        if (request.method, request.path) == ("POST", "/api/sandbox"):
            self.created.append(await request.read())
        fault = next(
            (
                fault
                for fault in self.faults
                if fault.takes(request.method, request.path, self.number)
            ),
            None,
        )
        if fault is not None and str(fault.action).startswith("SIG"):
            self.kill(getattr(signal, str(fault.action)))
            fault = None
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(DELAY_S)
            fault = None
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if fault is not None and fault.action in ("drip", "late", "flood"):
                return await self._ping(request)
            return await self._tunnel(request, cut=fault is not None)
        if fault is None:
            return await self._forward(request)
        return await self._inject(request, fault)

    async def _inject(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if isinstance(fault.action, int):
            return web.json_response(
                {"statusCode": fault.action, "message": fault.message}, status=fault.action
            )
        before = {
            "garbage": self._garbage,
            "elsewhere": self._elsewhere,
            "endless": self._endless,
            "ignored": self._as_it_is,
            "cut": self._half,
            "drip": self._drip,
            "flood": self._flood,
            "drop-before": self._drop,
        }
        if fault.action in before:
            return await before[fault.action](request)
        return await self._inject_after(request, fault.action, await self._forward(request))

    async def _inject_after(
        self, request: web.Request, action: str, acted: web.Response
    ) -> web.StreamResponse:
        """What the server did is done."""
        if action in ANSWERS:
            return web.Response(text=ANSWERS[action], content_type="application/json")
        if action == "unknown":
            return web.Response(body=acted.body, status=201, content_type="application/json")
        if action == "foreign":
            return await self._sandbox_called("foreign", request)
        if action == "stale":
            said = {"statusCode": 404, "message": "Sandbox not found"}
            return web.json_response(said, status=404)
        if action == "late":
            await asyncio.sleep(LATE_S)
            return acted
        return await self._drop(request)

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError("injected")

    async def _garbage(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>not Daytona</html>", content_type="text/html")

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": self.upstream + request.raw_path})

    async def _as_it_is(self, request: web.Request) -> web.StreamResponse:
        """The sandbox, unchanged, in answer to a change of it."""
        return await self._sandbox_called(request.path.split("/")[3], request)

    async def _sandbox_called(self, name: str, request: web.Request) -> web.StreamResponse:
        address = f"{self.upstream}/api/sandbox/{name}"
        headers = {"Authorization": request.headers["Authorization"]}
        async with (
            aiohttp.ClientSession() as session,
            session.get(address, headers=headers) as answer,
        ):
            return web.Response(body=await answer.read(), content_type="application/json")

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=403)
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        return await self._pour(request, slowly=True)

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        return await self._pour(request, slowly=False)

    async def _pour(self, request: web.Request, *, slowly: bool) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b" " if slowly else b" " * 65536)
                await asyncio.sleep(0.02 if slowly else 0)
        return answer

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        client = web.WebSocketResponse()
        await client.prepare(request)
        with suppress(ConnectionError):
            while True:
                await client.ping()
                await asyncio.sleep(0.02)
        return client

    async def _half(self, request: web.Request) -> web.StreamResponse:
        whole = await self._forward(request)
        body = whole.body if isinstance(whole.body, bytes) else b""
        half = web.StreamResponse(
            status=whole.status, headers={**whole.headers, "Content-Length": str(len(body) + 10)}
        )
        await half.prepare(request)
        await half.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.abort()
        return half

    async def _forward(self, request: web.Request) -> web.Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP_HEADERS
        }
        if re.fullmatch(".*/process/session/[^/]*/exec", request.path):
            self.started.append(await request.read())
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.upstream + request.raw_path,
                headers=headers,
                data=await request.read(),
            ) as answer,
        ):
            body = (await answer.read()).replace(self.upstream.encode(), self.url.encode())
            if "json" in answer.headers.get("Content-Type", ""):
                body = shuffle_lists(body)
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in HOP_HEADERS
            }
            return web.Response(body=body, status=answer.status, headers=kept)

    async def _tunnel(self, request: web.Request, *, cut: bool) -> web.StreamResponse:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() == "authorization"
        }
        async with aiohttp.ClientSession() as session:
            try:
                upstream = await session.ws_connect(
                    self.upstream + request.raw_path, headers=headers
                )
            except aiohttp.WSServerHandshakeError as error:
                return web.Response(status=error.status)
            client = web.WebSocketResponse()
            await client.prepare(request)
            backward = asyncio.ensure_future(pump(client, upstream))
            try:
                await pump(upstream, client, cut=cut, rewrite=(self.upstream, self.url))
            finally:
                backward.cancel()
                await asyncio.gather(backward, return_exceptions=True)
                await upstream.close()
                await client.close(code=1011 if cut else upstream.close_code or 1000)
            return client


def shuffle_lists(body: bytes) -> bytes:
    """JSON with every list of objects in another order: the real daemon lists from maps."""
    value = json.loads(body)
    waiting, chance = [value], random.Random(body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, list) and all(isinstance(item, dict) for item in part):
            chance.shuffle(part)
        waiting += (
            part if isinstance(part, list) else part.values() if isinstance(part, dict) else []
        )
    return json.dumps(value).encode()


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def pump(
    source: Socket, target: Socket, *, cut: bool = False, rewrite: tuple[str, str] = ("", "")
) -> None:
    """Pass messages on until `source` ends; with `cut`, only the first.

    Events name the server's address, so texts are rewritten.
    """
    async for message in source:
        with suppress(ConnectionError):
            if message.type == aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
            else:
                await target.send_str(
                    message.data.replace(*rewrite) if rewrite[0] else message.data
                )
        if cut:
            return


@contextmanager
def running_proxy(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    with serving(proxy.handle) as proxy.url:
        yield proxy
