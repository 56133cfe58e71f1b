"""Long text on its way to an answer: decoded and encoded in pieces, in a thread.

One call of the interpreter's own for megabytes would hold every other request for as long.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import hdrs, web

PIECE = 128 * 1024  # bytes or characters
JSON = "application/json"


def decoded(data: bytes) -> str:
    """UTF-8, with a replacement for each byte that is none. To be called in a thread."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(data[place : place + PIECE]) for place in range(0, len(data), PIECE)]
    return "".join([*parts, decoder.decode(b"", final=True)])


async def answer_long(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    """The JSON of `values`, whose texts may be long."""
    pieces = await asyncio.to_thread(lambda: list(encoded(values)))
    length = sum(map(len, pieces))
    if length <= PIECE:
        return web.Response(body=b"".join(pieces), content_type=JSON, charset="utf-8")
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: f"{JSON}; charset=utf-8"})
    response.content_length = length
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def encoded(values: Mapping[str, Any]) -> Iterator[bytes]:
    """An object's JSON, as `json.dumps` writes it, in pieces."""
    before = b"{"
    for name, value in values.items():
        yield before + json.dumps(name).encode() + b": "
        if isinstance(value, str):
            yield from encoded_text(value)
        else:
            yield json.dumps(value).encode()
        before = b", "
    yield b"}" if values else b"{}"


def encoded_text(text: str) -> Iterator[bytes]:
    yield b'"'
    for place in range(0, len(text), PIECE):
        yield json.dumps(text[place : place + PIECE])[1:-1].encode()
    yield b'"'
