"""Previews: the listeners behind their links, and which connection may stay open.

Each sandbox has a loopback address of its own, because a browser keeps cookies and storage by
address and ignores ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import json
import logging
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from ... import http1
from ...errors import ApiError, BadHead, FileProblem, SandboxGone, envelope, now
from ...http1 import HEAD_LIMIT, Headers, Request
from ...http_json import LOCAL_HEADER
from ...isolation import ports
from ...isolation.running_sandbox import RunningSandbox
from ..sandboxes.register import ManagedSandbox, Register
from . import access
from .access import Access, Grant
from .exchange import CHUNK, CLOSE, Relay, Stream

log = logging.getLogger(__name__)
LOCAL: Headers = ((LOCAL_HEADER, "1"),)
FIRST_ORDINARY_PORT = 1024
# Browsers refuse to open these (fetch standard, "port blocking"); the others of its list are below
# FIRST_ORDINARY_PORT.
BLOCKED_BY_BROWSERS = {
    int(port)
    for port in """
        1719 1720 1723 2049 3659 4045 4190 5060 5061 6000
        6566 6665 6666 6667 6668 6669 6679 6697 10080
    """.split()
}
DEFAULT_EXPIRY_S, LONGEST_EXPIRY_S = 60, 24 * 3600  # of a signed link
PORT_LIMIT = 64  # listeners of one sandbox
CONNECTION_LIMIT = 256  # of one sandbox, all its ports together
HEAD_TIMEOUT_S = 60.0  # browsers open connections ahead of need
CONNECT_TIMEOUT_S = 15.0
# An answer given before the whole request was read would otherwise be lost to a reset.
LINGER_S = 2.0
FLUSH_S = 30.0
HOST = re.compile(r"([0-9]{1,5})-([0-9a-z-]{1,57})\.localhost:([0-9]{1,5})")
NOTHING_SAID = Request("GET", "/", "1.1", ())
UNKNOWN_HOST = "no sandbox has a preview under this Host; it may be deleted, or the link expired"
NEEDS_TOKEN = (
    f"this preview needs its token: header {access.HEADER}, or a signed link; it may have expired"
)


@dataclass(frozen=True)
class Place:
    """What a connection leads to, and under which Host; `token` is the one in the host's name."""

    sandbox_id: str
    port: int
    host: str
    token: str | None = None


@dataclass(eq=False)
class Connection:
    """A client's connection; it ends as soon as its grant does."""

    place: Place
    task: asyncio.Task[None]
    grant: Grant | None = None


class Previews:
    """All previews of a server whose own address is 127.0.0.1:`port`."""

    def __init__(self, register: Register, *, api_key: str, port: int) -> None:
        self._register = register
        self.access = Access(register, api_key=api_key)
        self._main_port = port
        self._listeners: dict[tuple[str, int], asyncio.Server] = {}
        self._connections: dict[str, set[Connection]] = {}

    async def open_listeners(self, managed: ManagedSandbox) -> None:
        """A sandbox runs: the links it has work again, and the standard token is a new one."""
        self.access.forget_token(managed)
        for port in map(int, list(managed.record.preview_ports)):
            try:
                await self.listen(managed, port)
            except Exception:  # no preview is worth a sandbox that does not start
                log.exception("previews of sandbox %s, port %d", managed.record.id, port)

    async def close_all(self, managed: ManagedSandbox) -> None:
        """A sandbox ends: nothing listens for it and no connection is left."""
        for key in [key for key in self._listeners if key[0] == managed.record.id]:
            self._listeners.pop(key).close()
        tasks = [connection.task for connection in self._connections.get(managed.record.id, ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self, managed: ManagedSandbox, port: int) -> str:
        """`address:port` where the port's preview is, or will be once the sandbox runs.

        Raises the 400 or 503.
        """
        key = (managed.record.id, port)
        if key in self._listeners:
            return host_of(managed, port)
        opened = await self._bind(managed, port)
        host = host_of(managed, port)
        if managed.toolbox is None:
            opened.close()
            return host
        place = Place(managed.record.id, port, host)
        serve = functools.partial(self._connected, place)
        listener = await asyncio.start_server(
            serve, sock=opened, limit=HEAD_LIMIT, start_serving=False
        )
        # Before it gives up control, so that whoever ends the sandbox finds it.
        self._listeners[key] = listener
        await listener.start_serving()
        return host

    async def _bind(self, managed: ManagedSandbox, port: int) -> socket.socket:
        """A listening socket on the port itself or another one, which is on disk when this returns.

        Does not give up control.
        """
        record = managed.record
        if str(port) not in record.preview_ports and len(record.preview_ports) >= PORT_LIMIT:
            raise ApiError(400, f"This sandbox has previews of {PORT_LIMIT} ports already")
        address = record.preview_address or self._new_address()
        opened = first_free(address, [record.preview_ports.get(str(port), 0), port])
        ports = {**record.preview_ports, str(port): opened.getsockname()[1]}
        try:
            if (address, ports) != (record.preview_address, record.preview_ports):
                await self._register.change(managed, preview_address=address, preview_ports=ports)
        except BaseException:
            opened.close()
            raise
        return opened

    def _new_address(self) -> str:
        """One of 127.1.0.0 to 127.254.255.255 that no sandbox has.

        By chance, so that nobody meets the cookies of one long gone.
        """
        taken = {managed.record.preview_address for managed in self._register}
        first, many = int(ipaddress.IPv4Address("127.1.0.0")), 254 << 16
        while True:
            address = ipaddress.IPv4Address(first + secrets.randbelow(many))
            if str(address) not in taken and 0 < int(address) % 256 < 255:
                return str(address)

    def is_host(self, host: str) -> bool:
        """Whether this Host of the main port means a preview: `{port}-{id or token}.localhost`."""
        found = HOST.fullmatch(host.lower())
        return found is not None and int(found[3]) == self._main_port

    async def by_host(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection of the main port, whose first request has this Host."""
        found = HOST.fullmatch(host.lower())
        assert found is not None
        port, name = int(found[1]), found[2]
        key = access.digest_of(name)
        place = Place("", port, found[0])
        for managed in self._register:
            if managed.record.id == name:
                place = Place(name, port, found[0])
                break
            if key in managed.record.signed_previews:
                place = Place(managed.record.id, port, found[0], name)
                break
        await self._connected(place, reader, writer)

    async def _connected(
        self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection from its first byte to its last; it serves one request."""
        client = Stream(reader, writer)
        try:
            with self._counted(place) as connection:
                await self._serve(connection, client)
                await linger(client)
        except (OSError, asyncio.CancelledError):  # it broke off, or its grant ended
            writer.transport.abort()
        except Exception:
            writer.transport.abort()
            log.exception("preview of sandbox %s, port %d", place.sandbox_id, place.port)

    @contextlib.contextmanager
    def _counted(self, place: Place) -> Iterator[Connection]:
        task = asyncio.current_task()
        assert task is not None
        connection = Connection(place, task)
        fellows = self._connections.setdefault(place.sandbox_id, set())
        fellows.add(connection)
        try:
            yield connection
        finally:
            fellows.discard(connection)
            if not fellows and self._connections.get(place.sandbox_id) is fellows:
                del self._connections[place.sandbox_id]

    async def _serve(self, connection: Connection, client: Stream) -> None:
        request = NOTHING_SAID
        try:
            if len(self._connections[connection.place.sandbox_id]) > CONNECTION_LIMIT:
                many = f"{CONNECTION_LIMIT} connections to its previews"
                raise ApiError(503, f"this sandbox has {many} already")
            lines = await first_lines(client.reader)
            if lines:
                request = http1.parse_request(lines)
                await self._answer(connection, client, request)
        except BadHead as error:
            await client.send(refusal(ApiError(400, f"not a request: {error}"), request))
        except ApiError as error:
            await client.send(refusal(error, request))

    async def _answer(self, connection: Connection, client: Stream, request: Request) -> None:
        """Check Host and credentials, then redirect or relay.

        Raises ApiError while an answer is still owed.
        """
        place = connection.place
        if http1.values(request.headers, "host")[0].lower() != place.host:
            raise ApiError(403, "this Host is not served: DNS rebinding is refused")
        if not place.sandbox_id:
            raise ApiError(404, UNKNOWN_HOST)
        managed = self._register.find(place.sandbox_id)
        grant = self.access.grant(managed, place.port, request, in_host=place.token)
        if grant is None:
            raise ApiError(401, NEEDS_TOKEN)
        connection.grant = grant
        if grant.cookie and is_navigation(request):
            await client.send(redirect(place, request, grant.cookie))
            return
        async with self._register.toolbox(place.sandbox_id) as toolbox:
            await relay(client, request, place, toolbox.sandbox, grant)

    def end_unwelcome(self, managed: ManagedSandbox) -> None:
        """End the connections whose grant is gone."""
        for connection in list(self._connections.get(managed.record.id, ())):
            grant = connection.grant
            if grant is not None and not self.access.holds(managed, connection.place.port, grant):
                connection.task.cancel()


async def first_lines(reader: asyncio.StreamReader) -> list[str]:
    """A request's head, [] when the client left without one; raises BadHead or the 408."""
    try:
        return await asyncio.wait_for(http1.read_lines(reader, strict=True), HEAD_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ApiError(408, "no request came in time") from None


async def relay(
    client: Stream, request: Request, place: Place, running: RunningSandbox, grant: Grant
) -> None:
    """Carry one exchange.

    Raises ApiError while an answer is still owed, ConnectionError afterwards.
    """
    inside = await connect(running, place.port)
    cookie: Headers = (("Set-Cookie", grant.cookie),) if grant.cookie else ()
    exchange = Relay(access.for_inside(request), client, inside, more=(*cookie, *LOCAL))
    try:
        left = None if grant.expires is None else max(0.0, grant.expires - now())
        if not await exchange.run(timeout_s=left):
            raise ApiError(401, "this preview's link has expired")
    except ApiError as error:
        if exchange.answered:
            raise ConnectionAbortedError(error.message) from None
        raise
    finally:
        leave(inside.writer)


async def connect(running: RunningSandbox, port: int) -> Stream:
    """A connection to a port inside; raises the 400 or 502."""
    try:
        found = await asyncio.wait_for(ports.connect(running, port), CONNECT_TIMEOUT_S)
    except (FileProblem, asyncio.TimeoutError) as error:
        reason = error.strerror if isinstance(error, FileProblem) else "it does not answer"
        message = f"nothing serves port {port} inside the sandbox: {reason}"
        raise ApiError(502, message, code="BAD_GATEWAY") from None
    except SandboxGone as error:
        raise ApiError(400, f"the sandbox does not run: {error}") from None
    try:
        return Stream(*await asyncio.open_connection(sock=found, limit=HEAD_LIMIT))
    except OSError as error:
        found.close()
        message = f"port {port} inside the sandbox hung up: {error.strerror}"
        raise ApiError(502, message, code="BAD_GATEWAY") from None
    except BaseException:
        found.close()
        raise


def leave(writer: asyncio.StreamWriter) -> None:
    """Close once all is sent, or after a while whether or not the other side reads it."""
    writer.close()
    asyncio.get_running_loop().call_later(FLUSH_S, writer.transport.abort)


async def linger(client: Stream) -> None:
    """Say that all is said, and let the client read it before the connection goes."""
    with contextlib.suppress(asyncio.TimeoutError, OSError):
        if client.writer.can_write_eof():
            client.writer.write_eof()
        await asyncio.wait_for(drop_all(client.reader), LINGER_S)
    leave(client.writer)


async def drop_all(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK):
        pass


def first_free(address: str, wanted: list[int]) -> socket.socket:
    """A socket that listens on the first port that it may and can, at last on any.

    Raises the 503.
    """
    ordinary = [port for port in wanted if port >= FIRST_ORDINARY_PORT]
    usable = [port for port in ordinary if port not in BLOCKED_BY_BROWSERS]
    for port in [*usable, 0]:
        opened = socket.socket()
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((address, port))
            opened.listen(128)
            return opened
        except OSError as error:
            opened.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or port == 0:
                where = f"{address}:{port}"
                message = f"local Daytona cannot listen on {where}: {error.strerror}"
                raise ApiError(503, message) from None
    raise AssertionError("port 0 was tried")


def host_of(managed: ManagedSandbox, port: int) -> str:
    return f"{managed.record.preview_address}:{managed.record.preview_ports[str(port)]}"


def is_navigation(request: Request) -> bool:
    """Whether a browser shows the answer as a page.

    Only there is the key taken out of the address; other clients need not keep cookies.
    """
    return http1.values(request.headers, "sec-fetch-mode") == ["navigate"]


def redirect(place: Place, request: Request, cookie: str) -> bytes:
    """To the same address without the token, which the cookie now holds.

    With the host: `//x` alone would lead elsewhere.
    """
    location = f"http://{place.host}{access.without_query(request.target)}"
    said: Headers = (
        ("Location", location),
        ("Set-Cookie", cookie),
        ("Cache-Control", "no-store"),
        ("Content-Length", "0"),
    )
    return http1.encode("HTTP/1.1 302 Found", (*said, *CLOSE, *LOCAL))


def refusal(error: ApiError, request: Request) -> bytes:
    told = envelope(error, request)
    body = json.dumps(told).encode()
    said: Headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    head = http1.encode(f"HTTP/1.1 {error.status} {told['error']}", (*said, *CLOSE, *LOCAL))
    return head if request.method == "HEAD" else head + body
