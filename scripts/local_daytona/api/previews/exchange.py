"""One preview request and its answer, carried between a client and a port inside.

Bytes pass as they are, heads are bounded, memory stays flat.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ... import http1
from ...errors import ApiError, BadHead
from ...http1 import Headers, Request, Response

CHUNK = 64 * 1024
INTERIM_LIMIT = 100  # answers of the 1xx kind before the real one
SWITCH: Headers = (("Connection", "Upgrade"), ("Upgrade", "websocket"))
CLOSE: Headers = (("Connection", "close"),)


@dataclass(frozen=True)
class Stream:
    """Both directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class Relay:
    """One exchange.

    The client's connection serves no second request, so nothing after this one is read as one.
    """

    def __init__(self, request: Request, client: Stream, inside: Stream, *, more: Headers) -> None:
        """`request` as it goes inside; `more` is added to the answer's head."""
        self._request = request
        self._client = client
        self._inside = inside
        self._more = more
        self._switched = asyncio.Event()
        self._deaf = False  # inside takes no more, its answer may still come
        self.answered = False

    async def run(self, *, timeout_s: float | None) -> bool:
        """Until the answer is complete or the client has left; False when the time was over before.

        Raises ApiError (of use to the client while `answered` is not set), ConnectionError when the
        answer broke off.
        """
        tasks = asyncio.create_task(self._ask()), asyncio.create_task(self._answer())
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            return bool(done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self) -> None:
        """Pass head and body in, then all that comes over a WebSocket; ends with the client.

        What else follows a body is dropped.
        """
        request = self._request
        hop = SWITCH if request.is_upgrade else CLOSE
        first = f"{request.method} {request.target} HTTP/{request.version}"
        await self._tell(http1.encode(first, (*http1.end_to_end(request.headers), *hop)))
        body = http1.request_body(request)
        while data := await self._client.reader.read(CHUNK):
            if body.done:
                if request.is_upgrade:
                    await self._switched.wait()
                    await self._tell(data)
                continue
            try:
                await self._tell(data[: body.feed(data)])
            except BadHead as error:
                raise ApiError(400, f"the body is not HTTP: {error}") from None

    async def _tell(self, data: bytes) -> None:
        try:
            if not self._deaf:
                await self._inside.send(data)
        except ConnectionError:
            self._deaf = True

    async def _answer(self) -> None:
        try:
            await self._pass_on(await self._final_head())
        except BadHead as error:
            message = f"what listens there does not speak HTTP: {error}"
            raise ApiError(502, message, code="BAD_GATEWAY") from None
        except ConnectionError:
            if self.answered:
                raise
            message = "what listens there hung up without an answer"
            raise ApiError(502, message, code="BAD_GATEWAY") from None

    async def _final_head(self) -> Response:
        """The head of the answer itself; those of the 1xx kind before it are passed on."""
        for _ in range(INTERIM_LIMIT):
            lines = await http1.read_lines(self._inside.reader)
            if not lines:
                raise BadHead("it hung up without an answer")
            response = http1.parse_response(lines)
            if response.status >= 200 or response.status == 101:
                return response
            if self._request.version != "1.0":
                await self._client.send(encoded(response, http1.end_to_end(response.headers)))
        raise BadHead("it never came to the answer")

    async def _pass_on(self, response: Response) -> None:
        switches = response.status == 101
        if switches and not self._request.is_upgrade:
            raise BadHead("it changed to a protocol that nobody asked for")
        body: http1.Body = http1.Endless()
        if not switches:
            body = http1.response_body(response, method=self._request.method)
        self.answered = True
        hop = SWITCH if switches else CLOSE
        head = encoded(response, (*http1.end_to_end(response.headers), *hop, *self._more))
        await self._client.send(head)
        if switches:
            self._switched.set()
        while not body.done:
            data = await self._inside.reader.read(CHUNK)
            if not data and not isinstance(body, http1.Endless):
                raise ConnectionResetError("the answer broke off")
            if not data:
                return
            await self._client.send(data[: body.feed(data)])


def encoded(response: Response, headers: Headers) -> bytes:
    return http1.encode(f"HTTP/1.1 {response.status} {response.reason}", headers)
