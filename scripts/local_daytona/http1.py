"""HTTP/1: heads read strictly and written, and where a body ends; for previews and for egress."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from .errors import BadHead

HEAD_LIMIT = 64 * 1024
CHUNK_LINE_LIMIT = 4096
LETTER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"  # of a token, as RFC 9110 has it
WORD = LETTER + "+"
REQUEST_LINE = re.compile(rf"({LETTER}{{1,32}}) (/[!-~]*|\*) HTTP/(1\.[01])")
STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
HEADER = re.compile(rf"({WORD}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
# Said between two neighbours only; Transfer-Encoding stays, as bodies are passed on byte by byte.
HOP_BY_HOP = frozenset(
    """
        connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade
    """.split()
)
NEVER_NOMINATED = frozenset({"host", "content-length", "transfer-encoding"})

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Request:
    """A request's head; header names in lower case."""

    method: str
    target: str
    version: str
    headers: Headers

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_upgrade(self) -> bool:
        """Asks for a WebSocket, the one protocol that is passed on."""
        protocols = [value.lower() for value in values(self.headers, "upgrade")]
        return "upgrade" in nominated(self.headers) and protocols == ["websocket"]


@dataclass(frozen=True)
class Response:
    """A response's head; header names as they came."""

    status: int
    reason: str
    headers: Headers


class Body(Protocol):
    """Tells which of the bytes that pass by belong to one body."""

    done: bool

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` are the body's; sets `done` with its last. Raises BadHead."""


class Sized:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes) -> int:
        taken = min(self._left, len(data))
        self._left -= taken
        self.done = self._left == 0
        return taken


class Endless:
    """A body that the end of the connection ends."""

    done = False

    def feed(self, data: bytes) -> int:
        return len(data)


class Chunked:
    """A chunked body with its trailers.

    Lines end with CR LF and nothing else, as any other reader counts them too.
    """

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        self._line = b""
        self._end_line: Callable[[bytes], None] = self._size

    def feed(self, data: bytes) -> int:
        place = 0
        while place < len(data) and not self.done:
            if self._left:
                step = min(self._left, len(data) - place)
                self._left -= step
                place += step
            else:
                place += self._feed_line(data[place : place + CHUNK_LINE_LIMIT])
        return place

    def _feed_line(self, data: bytes) -> int:
        taken = data.find(b"\n") + 1 or len(data)
        self._line += data[:taken]
        if len(self._line) > CHUNK_LINE_LIMIT:
            raise BadHead("a chunk's first line is too long")
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise BadHead("a line of the chunked body does not end as lines do")
            self._end_line(line[:-2])
        return taken

    def _size(self, line: bytes) -> None:
        found = CHUNK_LINE.fullmatch(line)
        if found is None:
            raise BadHead("a chunk's first line is not its length")
        self._left = int(found[1], 16)
        self._end_line = self._after_data if self._left else self._trailer

    def _after_data(self, line: bytes) -> None:
        if line:
            raise BadHead("a chunk is longer than it says")
        self._end_line = self._size

    def _trailer(self, line: bytes) -> None:
        self.done = not line


async def read_lines(reader: asyncio.StreamReader, *, strict: bool = False) -> list[str]:
    """The lines up to the empty one; [] when the other side ended before it said anything.

    With `strict` a line ends with CR LF; simple programs answer with LF alone. Raises BadHead.
    """
    lines: list[str] = []
    size = 0
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            raise BadHead(f"the head is larger than {HEAD_LIMIT} bytes") from None
        size += len(line)
        if size > HEAD_LIMIT:
            raise BadHead(f"the head is larger than {HEAD_LIMIT} bytes")
        if not line.endswith(b"\n"):
            if lines or line:
                raise BadHead("the head is incomplete")
            return []
        if strict and not line.endswith(b"\r\n"):
            raise BadHead("a line of the head ends without CR")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            if lines:
                return lines
            continue  # an empty line before a head means nothing
        lines.append(text)


def parse_request(lines: list[str]) -> Request:
    """Raises BadHead; what parses has one Host and one idea of where its body ends."""
    found = REQUEST_LINE.fullmatch(lines[0])
    if found is None:
        raise BadHead("the first line is not a request")
    headers = tuple((name.lower(), value) for name, value in parse_headers(lines[1:]))
    if len(values(headers, "host")) != 1:
        raise BadHead("a request has one Host")
    request = Request(found[1], found[2], found[3], headers)
    request_body(request)
    return request


def parse_response(lines: list[str]) -> Response:
    found = STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise BadHead("the first line is not a status")
    return Response(int(found[1]), found[2] or "", parse_headers(lines[1:]))


def parse_headers(lines: Iterable[str]) -> Headers:
    found = [HEADER.fullmatch(line) for line in lines]
    if not all(found):
        raise BadHead("a line of the head is not a header")
    return tuple((match[1], match[2].rstrip(" \t")) for match in found if match)


def values(headers: Headers, name: str) -> list[str]:
    """All values of a header, `name` in lower case."""
    return [value for key, value in headers if key.lower() == name]


def request_body(request: Request) -> Body:
    return declared_body(request.headers) or Sized(0)


def response_body(response: Response, *, method: str) -> Body:
    """Also for those that never have one, whatever their headers say."""
    if method == "HEAD" or response.status in (204, 304):
        return Sized(0)
    return declared_body(response.headers) or Endless()


def declared_body(headers: Headers) -> Body | None:
    """What the headers say.

    Raises BadHead where they contradict each other, so that nobody is led to read it differently.
    """
    codings, lengths = values(headers, "transfer-encoding"), values(headers, "content-length")
    if codings:
        if lengths or [value.lower() for value in codings] != ["chunked"]:
            raise BadHead("Transfer-Encoding is not just chunked, or stands beside Content-Length")
        return Chunked()
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", lengths[0]):
        raise BadHead("Content-Length is not one number")
    return Sized(int(lengths[0]))


def end_to_end(headers: Headers) -> Headers:
    """Without what is meant for the neighbour, `Connection`'s own list included."""
    dropped = HOP_BY_HOP | (nominated(headers) - NEVER_NOMINATED)
    return tuple((name, value) for name, value in headers if name.lower() not in dropped)


def nominated(headers: Headers) -> set[str]:
    """What `Connection` names."""
    lists = values(headers, "connection")
    return {word.strip().lower() for value in lists for word in value.split(",")}


def encode(first_line: str, headers: Headers) -> bytes:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
