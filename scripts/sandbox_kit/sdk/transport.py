"""The SDK's generated clients over one connection pool, as AsyncDaytona sets them up.

AsyncDaytona costs more than a second of CPU to import, most of it for calls that no run makes. Each
of ours is a single request, which the generated clients make alike; tests/kit/test_sdk.py makes
each by both and compares what reaches the server. This imports the clients, so import it late.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from socket import SHUT_RDWR
from typing import IO, Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from ..errors import Failure
from ..settings import Settings
from .generated import (
    ApiClient,
    ApiException,
    Configuration,
    FileSystemApi,
    ProcessApi,
    SandboxApi,
    ToolboxApiClient,
    ToolboxConfiguration,
)
from .terminal import TerminalSize

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"  # the SDK asks for it too
KEEPALIVE_S = 30  # as AsyncDaytona's connector has it
HEARTBEAT_S = 20.0
STALL_S, SLOWEST = 60.0, 4096  # seconds without a byte; afterwards bytes a second on the whole
LONGEST_REFUSAL = 2000  # characters
LARGEST_REFUSAL = 64 << 10  # bytes of an error's body that are read
LARGEST_ANSWER = 16 << 20  # bytes
LARGEST_LOG = 512 << 20  # as long as a server keeps it; it is read as it comes
PAUSES_S = (0.25, 0.5)
IDEMPOTENT = {"DELETE", "GET", "HEAD", "OPTIONS", "PUT"}

Request = Callable[..., Awaitable[Any]]


class Transport:
    """One pool of connections to an endpoint and its toolboxes. Make it in a running loop."""

    def __init__(self, settings: Settings) -> None:
        self.headers = headers_for(settings)
        self._origin = URL(settings.endpoint).origin()
        self.target = settings.target
        # Any: its constructor is not annotated.
        api: Any = ApiClient(Configuration(host=settings.endpoint))
        api.default_headers.update(self.headers)
        connector = aiohttp.TCPConnector(
            limit=250, ssl=api.rest_client.ssl_context, keepalive_timeout=KEEPALIVE_S
        )
        self.session = aiohttp.ClientSession(
            connector=connector, trust_env=True, trace_configs=[refuse_cross_host_redirect()]
        )
        self._pool(api)
        self.sandboxes = SandboxApi(api)

    def headers_at(self, address: str) -> dict[str, str]:
        """Headers for an address that the server named: the key goes to the server itself only."""
        return self.headers if URL(address).origin() == self._origin else {}

    def toolbox(self, url: str, sandbox_id: str) -> Toolbox:
        """The toolbox of one sandbox.

        Raises Failure server_error for one that would take key and program in clear.
        """
        if self._origin.scheme == "https" and not url.startswith("https://"):
            raise Failure(
                "server_error", "the server's API is https, and the address of its toolbox is not"
            )
        # A copy: each new one would read this machine's certificates again, 25 ms.
        api = copy.copy(self._toolbox_api)
        api.configuration = ToolboxConfiguration(host=f"{url.rstrip('/')}/{sandbox_id}")
        api.default_headers = {**api.default_headers, **self.headers}
        return Toolbox(api, self.session)

    @functools.cached_property
    def _toolbox_api(self) -> Any:
        api = ToolboxApiClient(ToolboxConfiguration(host=str(self._origin)))
        self._pool(api)
        return api

    async def close(self) -> None:
        await self.session.close()

    def _pool(self, api: Any) -> None:
        api.user_agent = self.headers["User-Agent"]
        api.rest_client.pool_manager = self.session
        api.rest_client.request = limit_body_size(retry_idempotent(api.rest_client.request))


class Toolbox:
    """The toolbox of one sandbox: generated calls, and four streams that are not generated."""

    def __init__(self, api: Any, session: aiohttp.ClientSession) -> None:
        self.api = api
        self.files = FileSystemApi(api)
        self.process = ProcessApi(api)
        self._session = session
        self._host: str = api.configuration.host

    async def upload(self, files: Mapping[str, bytes | IO[bytes]], *, timeout_s: float) -> None:
        """All in one request, by path inside; open files are streamed."""
        form = aiohttp.FormData()
        for number, (path, content) in enumerate(files.items()):
            form.add_field(f"files[{number}].path", path)
            form.add_field(
                f"files[{number}].file",
                content,
                filename=path,
                content_type="application/octet-stream",
            )
        async with self._session.post(
            f"{self._host}/files/bulk-upload",
            data=form,
            headers=self.api.default_headers,
            timeout=aiohttp.ClientTimeout(timeout_s),
        ) as answer:
            if answer.status >= 400:
                raise ApiException(status=answer.status, reason=await read_upload_errors(answer))

    async def download(self, path: str, take: Callable[[bytes], None], *, timeout_s: float) -> None:
        """A file's bytes as they come; a broken connection raises: half a file is not all of it."""
        async with self._session.get(
            URL(f"{self._host}/files/download?path={quote(path)}", encoded=True),
            headers={**self.api.default_headers, "Accept": "application/octet-stream"},
            timeout=aiohttp.ClientTimeout(timeout_s, sock_read=STALL_S),
        ) as answer:
            await raise_for_error(answer)
            size, began = 0, time.monotonic()
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                require_speed(size, began)
                take(chunk)

    async def read_log(self, path: str, feed: Callable[[bytes], None], *, timeout_s: float) -> None:
        """The bytes of a command's log as they come.

        Raises Failure server_error for more than LARGEST_LOG of them, packed or not.
        """
        size, began = 0, time.monotonic()
        answer = await retry_idempotent(self._session.request)(
            "GET",
            f"{self._host}{path}",
            headers={**self.api.default_headers, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(timeout_s, sock_read=STALL_S),
        )
        async with answer:
            await raise_for_error(answer)
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                require_speed(size, began)
                if size > LARGEST_LOG:
                    raise too_long(LARGEST_LOG)
                feed(chunk)

    async def connect_terminal(
        self, terminal_id: str, size: TerminalSize
    ) -> aiohttp.ClientWebSocketResponse:
        """The socket of a new terminal, which tells its exit code; the caller closes it."""
        query = urlencode({"id": terminal_id, "cols": str(size.cols), "rows": str(size.rows)})
        return await self._session.ws_connect(
            f"{self._host}/process/pty/create-connect?{query}",
            headers={**self.api.default_headers, "Accept": "application/json"},
            protocols=(EXIT_CONTROL,),
            heartbeat=HEARTBEAT_S,
        )

    async def follow(self, path: str, feed: Callable[[bytes], None]) -> None:
        """The messages of a stream until its end.

        Raises ConnectionError when that was not the server's own.
        """
        headers = {**self.api.default_headers, "Accept": "application/json"}
        async with self._session.ws_connect(
            f"{self._host}{path}", headers=headers, heartbeat=HEARTBEAT_S
        ) as socket:
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.ERROR:
                        raise ConnectionError(f"WebSocket error: {socket.exception()}")
                    feed(
                        message.data.encode("utf-8", "ignore")
                        if isinstance(message.data, str)
                        else message.data
                    )
            except BaseException:
                cut_off(socket)
                raise
            if socket.close_code not in (None, aiohttp.WSCloseCode.OK):
                raise ConnectionError(
                    f"WebSocket closed unexpectedly (close code {socket.close_code})"
                )


def cut_off(socket: aiohttp.ClientWebSocketResponse) -> None:
    """End a stream without the closing words, for which a server that goes on pinging never waits.

    The library would read on for them, each ping anew.
    """
    connection = socket.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(SHUT_RDWR)


def require_speed(size: int, began: float) -> None:
    """Raises Failure network for a body that only drips: it would hold the run for its size."""
    seconds = time.monotonic() - began
    if seconds > STALL_S and size < seconds * SLOWEST:
        raise Failure(
            "network",
            f"the server sends too slowly: {size} bytes in {seconds:.0f} s",
            fix="repeat it; or let the program write less",
        )


def headers_for(settings: Settings) -> dict[str, str]:
    """Who asks, in AsyncDaytona's words: servers tell clients apart by them."""
    number = version("daytona")
    headers = {
        "Authorization": f"Bearer {settings.api_key or settings.jwt_token}",
        "X-Daytona-Source": "sdk-python-async",
        "X-Daytona-SDK-Version": number,
        "User-Agent": f"sdk-python-async/{number}",
    }
    if not settings.api_key and settings.organization_id:
        headers["X-Daytona-Organization-ID"] = settings.organization_id
    return headers


def refuse_cross_host_redirect() -> aiohttp.TraceConfig:
    """Hooks that refuse a redirect to another host.

    aiohttp takes the key off such a request, but sends the body, with its variables and tokens.
    """

    async def refuse(
        _session: object, _context: object, found: aiohttp.TraceRequestRedirectParams
    ) -> None:
        place = found.url.join(
            URL(found.response.headers.get("Location") or found.response.headers.get("URI") or "")
        )
        if place.origin() != found.url.origin():
            raise Failure(
                "server_error", "the server redirects to another host, which gets nothing from here"
            )

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


def limit_body_size(request: Request) -> Request:
    """Read the body here, in bounded memory.

    The generated clients would take in whatever a server sends.
    """

    async def read(method: str, url: str, **options: Any) -> Any:
        answer = await request(method, url, **options)
        answer.data = await (
            read_error_body(answer.response)
            if answer.status >= 400
            else read_body(answer.response, LARGEST_ANSWER)
        )
        return answer

    return read


async def raise_for_error(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        raise ApiException(
            status=answer.status, reason=answer.reason, body=await read_error_text(answer)
        )


async def read_body(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; raises Failure server_error for one that is too long."""
    data = await read_at_most(answer, limit)
    if len(data) > limit:
        raise too_long(limit)
    return data


def too_long(limit: int) -> Failure:
    return Failure(
        "server_error",
        f"the server's answer is longer than {limit >> 20} MB",
        fix="let the program write to a file in the sandbox, and --download it",
    )


async def read_error_body(answer: aiohttp.ClientResponse) -> bytes:
    """As much of an error's body as anyone wants to read."""
    return (await read_at_most(answer, LARGEST_REFUSAL))[:LARGEST_REFUSAL]


async def read_at_most(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; of a longer one a little more than `limit`, and then its connection is closed."""
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > limit:
            answer.close()
            break
    return bytes(data)


def retry_idempotent(request: Request) -> Request:
    """Send again what was not sent, and what does no harm twice.

    A POST whose connection broke may have been acted on.
    """

    async def repeated(method: str, url: str, **options: Any) -> Any:
        for pause in PAUSES_S:
            try:
                return await request(
                    method, url, **{**options, "headers": dict(options.get("headers") or {})}
                )
            except aiohttp.ClientConnectorError:
                pass
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
                if method not in IDEMPOTENT:
                    raise
            await asyncio.sleep(pause)
        return await request(method, url, **options)

    return repeated


async def read_error_text(answer: aiohttp.ClientResponse) -> str:
    return (await read_error_body(answer)).decode(errors="replace")[:LONGEST_REFUSAL]


async def read_upload_errors(answer: aiohttp.ClientResponse) -> str:
    """Per file in `errors`, or whatever came instead."""
    said = (await read_error_body(answer)).decode(errors="replace")
    try:
        return ", ".join(json.loads(said)["errors"])
    except Exception:  # noqa: BLE001  any other body is told as it is
        return said[:LONGEST_REFUSAL]
