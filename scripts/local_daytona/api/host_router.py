"""The main port's door: connections for a preview's Host go to the previews, others to the API."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import cast

from ..http1 import HEAD_LIMIT
from .previews.service import Previews

LOOKS_LIKE_HTTP = re.compile(rb"[A-Za-z]{1,32} \S+ HTTP/1\.[01]\r?\n")
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
HOST_LINE = re.compile(rb"\nhost:[ \t]*([!-~]{1,255})[ \t]*(?=\r?\n)", re.IGNORECASE)
PATIENCE_S = 20.0  # the API's own server then says what it thinks of half a head


class HostRouter(asyncio.Protocol):
    """Reads a first head, decides once, and hands the connection over with what it read.

    A later request cannot change sides.
    """

    def __init__(self, previews: Previews, api: Callable[[], asyncio.Protocol]) -> None:
        self._previews = previews
        self._api = api
        self._read = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._decide)
        strange = not self._read[:1].isalpha() or (
            b"\n" in self._read and not LOOKS_LIKE_HTTP.match(self._read)
        )
        if strange or len(self._read) > HEAD_LIMIT or END_OF_HEAD.search(self._read):
            self._decide()

    def eof_received(self) -> bool | None:
        return self._decide().eof_received() if self._read else None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        if self._timer is not None:
            self._timer.cancel()

    def _decide(self) -> asyncio.Protocol:
        if self._timer is not None:
            self._timer.cancel()
        end = END_OF_HEAD.search(self._read)
        hosts = HOST_LINE.findall(self._read[: end.end()]) if end else []
        host = hosts[0].decode("ascii") if len(hosts) == 1 else ""
        return self._hand_over(self._preview(host) if self._previews.is_host(host) else self._api())

    def _preview(self, host: str) -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=HEAD_LIMIT)
        return asyncio.StreamReaderProtocol(reader, functools.partial(self._previews.by_host, host))

    def _hand_over(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._read)
        return protocol
