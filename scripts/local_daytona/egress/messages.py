"""The heads of proxy requests: read strictly and written anew. No socket is used here.

So the next server sees what was checked, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Refused
from .policy import Target

WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rf"({WORD}) ([\x21-\x7e]+) HTTP/1\.([01])")
HEADER = re.compile(rf"({WORD}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#]+))(?::([0-9]{1,5}))?")
ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp]://([^/?#]+)([^#]*)")
HOP_BY_HOP = set(
    """
        connection keep-alive proxy-connection proxy-authorization proxy-authenticate
        te trailer upgrade http2-settings host transfer-encoding content-length
    """.split()
)
CHUNKED = -1  # a body's length that its chunks tell
HTTP_PORT = 80


@dataclass(frozen=True)
class Request:
    """What a client asked the proxy for; `path` is empty for a tunnel (CONNECT)."""

    method: str
    target: Target
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: int | None = None  # bytes, or CHUNKED; None when the head says nothing of one

    @property
    def is_tunnel(self) -> bool:
        return self.method == "CONNECT"

    def head(self, *, absolute: str = "", more: Sequence[tuple[str, str]] = ()) -> bytes:
        """The head to send on: to the server itself, or to another proxy.

        `absolute` is the host to name to a proxy; `more` are headers for it.
        """
        host = without_default_port(str(self.target))
        framing = [] if self.body is None else [("Content-Length", str(self.body))]
        if self.body == CHUNKED:
            framing = [("Transfer-Encoding", "chunked")]
        uri = f"http://{without_default_port(absolute)}{self.path}" if absolute else self.path
        headers = [("Host", host), *self.headers, *framing, *more, ("Connection", "close")]
        lines = [f"{self.method} {uri} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def without_default_port(text: str) -> str:
    return text.removesuffix(f":{HTTP_PORT}")


def parse(head: bytes) -> Request:
    """A request from its head, the empty line included; raises Refused (400)."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    start = REQUEST_LINE.fullmatch(lines[0])
    if start is None:
        raise Refused(400, "this is not an HTTP/1 request")
    method, uri, _ = start.groups()
    headers = [_header(line) for line in lines[1:]]
    if method == "CONNECT":
        return Request(method, authority(uri, default_port=None))
    absolute = ABSOLUTE.fullmatch(uri)
    if absolute is None:
        raise Refused(400, "this is a proxy: it takes CONNECT host:port and http:// addresses only")
    target = authority(absolute[1], default_port=HTTP_PORT)
    path = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    return Request(method, target, path, _passed_on(headers), body_length(headers))


def _header(line: str) -> tuple[str, str]:
    match = HEADER.fullmatch(line)
    if match is None:
        raise Refused(400, "a header line is malformed")
    return match[1], match[2].rstrip(" \t")


def authority(text: str, *, default_port: int | None) -> Target:
    """host:port, [address]:port; raises Refused (400)."""
    match = AUTHORITY.fullmatch(text)
    port = int(match[3]) if match and match[3] else default_port
    if match is None or port is None:
        raise Refused(400, "the target must be host:port")
    return Target.parse(match[1] or match[2], port)


def _passed_on(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Without what concerns this hop only, and what is written anew."""
    lists = [value for name, value in headers if name.lower() == "connection"]
    named = {word.strip().lower() for value in lists for word in value.split(",")}
    return tuple((name, value) for name, value in headers if name.lower() not in HOP_BY_HOP | named)


def body_length(headers: list[tuple[str, str]]) -> int | None:
    """Bytes that follow the head, or CHUNKED, or None.

    Raises Refused (400) for whatever two servers could read differently.
    """
    codings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    if codings:
        if codings != ["chunked"] or lengths:
            raise Refused(400, "the body's length is ambiguous")
        return CHUNKED
    if not lengths:
        return None
    (length, *others) = lengths
    if others or not re.fullmatch(r"[0-9]{1,18}", length):
        raise Refused(400, "the body's length is ambiguous")
    return int(length)


def refusal(error: Refused) -> bytes:
    """The whole answer, with the reason in the status line too.

    Most clients show nothing else of a refused CONNECT.
    """
    line = " ".join(error.reason.encode("ascii", "replace").decode().split())[:300]
    body = f"local Daytona: {line}\n"
    return (
        f"HTTP/1.1 {error.status} local Daytona: {line}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode()
