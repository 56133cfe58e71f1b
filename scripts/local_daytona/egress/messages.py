"""The heads of proxy requests: read strictly and written anew. No socket is used here.

So the next server sees what was checked, and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .. import http1
from ..errors import BadHead, Refused
from ..http1 import Body, Headers, Sized
from .policy import Target

REQUEST_LINE = re.compile(rf"({http1.WORD}) ([\x21-\x7e]+) HTTP/1\.([01])")
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#]+))(?::([0-9]{1,5}))?")
ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp]://([^/?#]+)([^#]*)")
# Written anew, or said to this proxy only, beside what http1 leaves out.
REWRITTEN = ("host", "transfer-encoding", "content-length", "trailer", "http2-settings")
HTTP_PORT = 80


@dataclass(frozen=True)
class Request:
    """What a client asked the proxy for; `path` is empty for a tunnel (CONNECT)."""

    method: str
    target: Target
    path: str = ""
    headers: Headers = ()  # without `framing`, which says where the body ends
    framing: Headers = ()
    body: Body = field(default_factory=lambda: Sized(0))

    @property
    def is_tunnel(self) -> bool:
        return self.method == "CONNECT"

    def head(self, *, absolute: str = "", more: Headers = ()) -> bytes:
        """The head to send on: to the server itself, or to another proxy.

        `absolute` is the host to name to a proxy; `more` are headers for it.
        """
        host = without_default_port(str(self.target))
        uri = f"http://{without_default_port(absolute)}{self.path}" if absolute else self.path
        last = ("Connection", "close")
        headers = (("Host", host), *self.headers, *self.framing, *more, last)
        return http1.encode(f"{self.method} {uri} HTTP/1.1", headers)


def without_default_port(text: str) -> str:
    return text.removesuffix(f":{HTTP_PORT}")


def parse(head: bytes) -> Request:
    """A request from its head, the empty line included; raises Refused (400)."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    start = REQUEST_LINE.fullmatch(lines[0])
    if start is None:
        raise Refused(400, "this is not an HTTP/1 request")
    method, uri, _ = start.groups()
    try:
        headers = http1.parse_headers(lines[1:])
        body = http1.declared_body(headers) or Sized(0)
    except BadHead as error:
        raise Refused(400, f"servers could read this request differently: {error}") from None
    if method == "CONNECT":
        return Request(method, authority(uri, default_port=None))
    absolute = ABSOLUTE.fullmatch(uri)
    if absolute is None:
        raise Refused(400, "this is a proxy: it takes CONNECT host:port and http:// addresses only")
    target = authority(absolute[1], default_port=HTTP_PORT)
    path = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    return Request(method, target, path, passed_on(headers), framing(headers), body)


def authority(text: str, *, default_port: int | None) -> Target:
    """host:port, [address]:port; raises Refused (400)."""
    match = AUTHORITY.fullmatch(text)
    port = int(match[3]) if match and match[3] else default_port
    if match is None or port is None:
        raise Refused(400, "the target must be host:port")
    return Target.parse(match[1] or match[2], port)


def passed_on(headers: Headers) -> Headers:
    """Without what concerns this hop only, and what is written anew."""
    kept = http1.end_to_end(headers)
    return tuple((name, value) for name, value in kept if name.lower() not in REWRITTEN)


def framing(headers: Headers) -> Headers:
    """The one header that says where the body ends, if any does."""
    wanted = ("content-length", "transfer-encoding")
    return tuple((name, value) for name, value in headers if name.lower() in wanted)


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
