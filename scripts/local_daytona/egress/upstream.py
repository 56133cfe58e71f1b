"""The server's own way out: resolving names, dialling checked addresses, the server's own proxy."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import Refused
from .policy import Address, Filter, Network, Target, unmapped

RESOLVER_THREADS = 256  # each sandbox holds a few at most: egress.gateway
RESOLVE_TIMEOUT_S = 15.0
DIAL_TIMEOUT_S = 15.0
MOST_ADDRESSES = 8
DIALLED_ADDRESSES = 3

Resolve = Callable[[str], Awaitable[list[Address]]]
Dial = Callable[[Address, int], Awaitable[socket.socket]]


class SystemResolver:
    """getaddrinfo in threads of its own: names that hang must not stop the server's others."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="egress-resolver")

    async def __call__(self, name: str) -> list[Address]:
        """The addresses of a name in the system's order; raises OSError."""
        texts = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, name)
        plain = [text.partition("%")[0] for text in dict.fromkeys(texts)]
        return [unmapped(ipaddress.ip_address(text)) for text in plain][:MOST_ADDRESSES]

    @staticmethod
    def _ask(name: str) -> list[str]:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        return [str(item[4][0]) for item in found]


async def dial(address: Address, port: int) -> socket.socket:
    """A connected socket to an address, never a name; raises OSError."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting = asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        await asyncio.wait_for(connecting, DIAL_TIMEOUT_S)
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(frozen=True)
class UpstreamProxy:
    """A proxy that the server's own environment names; its password never shows."""

    scheme: str
    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> UpstreamProxy:
        """From http://user:password@host:port, the scheme optional; raises ValueError."""
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if not parts.hostname:
            raise ValueError("the proxy's address names no host")
        user = urllib.parse.unquote(parts.username or "")
        password = urllib.parse.unquote(parts.password or "")
        credentials = f"{user}:{password}" if user else ""
        return cls(parts.scheme, parts.hostname, parts.port or 80, credentials)

    def headers(self) -> list[tuple[str, str]]:
        token = base64.b64encode(self.credentials.encode()).decode()
        return [("Proxy-Authorization", f"Basic {token}")] if self.credentials else []


@dataclass(frozen=True)
class UpstreamProxies:
    """Which proxy is used for tunnels (`https`) and for plain requests (`http`).

    `bypass` names the hosts for which none is, as NO_PROXY does.
    """

    http: UpstreamProxy | None = None
    https: UpstreamProxy | None = None
    bypass: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> UpstreamProxies:
        """As curl and Python read it: the scheme's own variable, else ALL_PROXY.

        Raises ValueError for one that is no address.
        """

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.upper()) or ""

        def found(name: str) -> UpstreamProxy | None:
            url = value(name) or value("all_proxy")
            return UpstreamProxy.parse(url) if url else None

        return cls(found("http_proxy"), found("https_proxy"), value("no_proxy"))

    def for_target(self, target: Target, *, tunnel: bool) -> UpstreamProxy | None:
        """The proxy to go through, if any; raises Refused (502) for one that is not http://."""
        proxy = self.https if tunnel else self.http
        bypasses = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
        if proxy is None or bypasses(str(target), {"no": self.bypass}):
            return None
        if proxy.scheme != "http":
            raise Refused(
                502,
                f"the server's own proxy is {proxy.scheme}://,"
                " and only http:// proxies are supported",
            )
        return proxy

    def __str__(self) -> str:
        return ", ".join(sorted({str(proxy) for proxy in (self.http, self.https) if proxy}))


def forget(asked: asyncio.Future[list[Address]], turns: asyncio.Semaphore | None) -> None:
    """Who asked may have given up: then nobody else looks at what it came to."""
    if not asked.cancelled():
        asked.exception()
    if turns is not None:
        turns.release()


@dataclass(frozen=True)
class Upstream:
    """What every sandbox's gateway shares: the filter, and how to resolve and dial."""

    filter: Filter = field(default_factory=Filter)
    resolve: Resolve = field(default_factory=SystemResolver)
    dial: Dial = dial
    proxies: UpstreamProxies = UpstreamProxies()

    @classmethod
    def of_this_host(
        cls, environment: Mapping[str, str], opened: tuple[Network, ...] = ()
    ) -> Upstream:
        return cls(filter=Filter(opened), proxies=UpstreamProxies.of(environment))

    async def addresses(self, name: str, turns: asyncio.Semaphore | None = None) -> list[Address]:
        """Resolved within bounds; raises OSError.

        A lookup that is given up goes on in its thread, and keeps its turn until it ends.
        """
        if turns is not None:
            await turns.acquire()
        asking = asyncio.ensure_future(self.resolve(name))
        asking.add_done_callback(lambda done: forget(done, turns))
        try:
            return await asyncio.wait_for(asyncio.shield(asking), RESOLVE_TIMEOUT_S)
        except (asyncio.TimeoutError, UnicodeError):
            raise OSError(f"{name} does not resolve") from None

    async def dial_one(self, addresses: list[Address], port: int) -> socket.socket:
        """The first that answers; raises the last one's OSError."""
        problem = OSError("it has no address")
        for address in addresses[:DIALLED_ADDRESSES]:
            try:
                return await self.dial(address, port)
            except asyncio.TimeoutError:
                problem = OSError("it does not answer")
            except OSError as error:
                problem = error
        raise problem

    async def dial_proxy(self, proxy: UpstreamProxy) -> socket.socket:
        """The operator chose it, so the filter does not apply; raises OSError."""
        try:
            addresses: list[Address] = [ipaddress.ip_address(proxy.host)]
        except ValueError:
            addresses = await self.addresses(proxy.host)
        return await self.dial_one(addresses, proxy.port)
