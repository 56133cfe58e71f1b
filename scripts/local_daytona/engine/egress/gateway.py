"""The proxy of one sandbox: accepts inside its namespace, decides by the rules that hold now, and cuts what they forbid later."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import socket
from dataclasses import dataclass

from . import messages, relay
from .messages import Request
from .outside import Outside, Parent
from .policy import Address, Refused, Rules, Target

log = logging.getLogger(__name__)
MOST_CONNECTIONS = 256
MOST_LOOKUPS = 4  # at once: each holds a thread for as long as the name servers take
HEAD_TIMEOUT_S = 20.0
PARENT_TIMEOUT_S = 60.0
BUSY_PAUSE_S = 0.05  # at most 20 refusals a second; whoever else connects waits in the sandbox's own queue
LOGGED_REFUSALS = 20  # of one sandbox; then those whose number is a power of two
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
PARENT_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


@dataclass(frozen=True)
class Route:
    """A decision: the target, its checked addresses (none when only the parent can resolve it), and the parent, if any."""

    target: Target
    addresses: tuple[Address, ...]
    parent: Parent | None

    def named(self, rules: Rules) -> str:
        """What the parent is asked for: the name, by which proxies decide; under a CIDR list the address that was checked."""
        return str(Target(str(self.addresses[0]), self.target.port) if rules.cidrs else self.target)


class Gateway:
    """One sandbox's way out. `run` accepts until it is cancelled; `apply` changes the rules."""

    def __init__(self, listener: socket.socket, outside: Outside, rules: Rules, *, name: str) -> None:
        self._listener = listener
        self._outside = outside
        self._rules = rules
        self._name = name
        self._connections: dict[asyncio.Task[None], Route | None] = {}
        self._lookups = asyncio.Semaphore(MOST_LOOKUPS)
        self.refused = 0

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def apply(self, rules: Rules) -> None:
        """From now on `rules`; open connections that they forbid end."""
        self._rules = rules
        for task, route in list(self._connections.items()):
            if route is not None and not self._still_allowed(route):
                task.cancel()

    def _still_allowed(self, route: Route) -> bool:
        """Whether the rules admit every address of it: which one answered does not matter."""
        try:
            self._check(route)
        except Refused:
            return False
        return len(self._rules.admitted(list(route.addresses))) == len(route.addresses)

    async def run(self) -> None:
        """Accept until cancelled; then every connection ends and the sockets close."""
        try:
            while True:
                await self._accept(asyncio.get_running_loop())
        finally:
            self._listener.close()
            await relay.end(list(self._connections))

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            client, _ = await loop.sock_accept(self._listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED):
                raise
            await asyncio.sleep(BUSY_PAUSE_S)
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            await self._turn_away(client)
            return
        task = loop.create_task(self._serve(client))
        self._connections[task] = None
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _turn_away(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.send(messages.refusal(Refused(503, f"{MOST_CONNECTIONS} connections of this sandbox are open")))
        await asyncio.sleep(BUSY_PAUSE_S)

    async def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                await self._answer(client)
            except Refused as refusal:
                self._note(refusal)
                await relay.say_goodbye(client, messages.refusal(refusal))
            except (OSError, EOFError):
                pass  # one of the two sides went away
            except Exception:
                log.exception("egress of sandbox %s", self._name)

    def _note(self, refusal: Refused) -> None:
        if refusal.status != 403:
            return
        self.refused += 1
        if self.refused <= LOGGED_REFUSALS or self.refused & (self.refused - 1) == 0:
            log.info("egress of sandbox %s, refusal %d: %s", self._name, self.refused, refusal.reason)

    async def _answer(self, client: socket.socket) -> None:
        incoming = relay.Incoming(client)
        request = messages.parse(await self._head(incoming))
        route = await self._decide(request)
        self._keep(route)
        with await self._connect(route) as server:
            if request.is_tunnel:
                await self._tunnel(route, (incoming, client), server)
                return
            absolute, more = (route.named(self._rules), route.parent.headers()) if route.parent else ("", [])
            await asyncio.get_running_loop().sock_sendall(server, request.head(absolute=absolute, more=more))
            await relay.exchange(incoming, client, server, body=request.body or 0)

    async def _head(self, incoming: relay.Incoming) -> bytes:
        try:
            return await asyncio.wait_for(incoming.until(b"\r\n\r\n", relay.LARGEST_HEAD), HEAD_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise Refused(408, "the request did not come") from None

    def _keep(self, route: Route) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = route

    async def _decide(self, request: Request) -> Route:
        """Where to connect to; raises Refused."""
        target = request.target
        self._rules.refuse_name(target)
        parent = self._outside.parents.for_target(target, tunnel=request.is_tunnel)
        found = [target.address] if target.address else await self._look_up(target, parent)
        route = Route(target, tuple(found), parent)
        self._check(route)  # by the rules as they are after the lookup
        return Route(target, tuple(self._rules.admitted(found)), parent)

    async def _look_up(self, target: Target, parent: Parent | None) -> list[Address]:
        """Resolved once. Behind a parent a name may be one that only the parent resolves: then no address is known."""
        async with self._lookups:
            try:
                found = await self._outside.addresses(target.host)
            except OSError:
                found = []
        if not found and (parent is None or is_local_name(target.host)):
            raise Refused(502, f"{target.host} does not resolve")
        return found

    def _check(self, route: Route) -> None:
        """Raises Refused (403); one forbidden address of a name is enough."""
        self._rules.refuse_name(route.target)
        for address in route.addresses:
            word = self._outside.filter.denies(address)
            if word is not None:
                raise Refused(403, f"{route.target} refused: {'' if address == route.target.address else f'{address} is a '}{word} address")
        if self._rules.cidrs and not self._rules.admitted(list(route.addresses)):
            raise Refused(403, f"{route.target} refused: not on networkAllowList")

    async def _connect(self, route: Route) -> socket.socket:
        try:
            if route.parent is not None:
                return await self._outside.dial_parent(route.parent)
            return await self._outside.dial_one(list(route.addresses), route.target.port)
        except OSError as error:
            where = f"the server's own proxy {route.parent}" if route.parent else str(route.target)
            raise Refused(502, f"cannot reach {where}: {error.strerror or error}") from None

    async def _tunnel(self, route: Route, client: tuple[relay.Incoming, socket.socket], server: socket.socket) -> None:
        answers = relay.Incoming(server)
        if route.parent is not None:
            await self._through(route.parent, route.named(self._rules), answers, server)
        await asyncio.get_running_loop().sock_sendall(client[1], CONNECTED)
        await relay.tunnel(*client, answers, server)

    async def _through(self, parent: Parent, named: str, answers: relay.Incoming, server: socket.socket) -> None:
        """Ask the parent for a tunnel; raises Refused with its status."""
        lines = [f"CONNECT {named} HTTP/1.1", f"Host: {named}", *(f"{name}: {value}" for name, value in parent.headers())]
        await asyncio.get_running_loop().sock_sendall(server, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        try:
            head = await asyncio.wait_for(answers.until(b"\r\n\r\n", relay.LARGEST_HEAD), PARENT_TIMEOUT_S)
        except (asyncio.TimeoutError, EOFError, OSError, Refused):
            head = b""
        match = PARENT_STATUS.match(head)
        if match is None or not match[1].startswith(b"2"):
            raise Refused(502, f"the server's own proxy {parent} answered {match[1].decode() if match else 'nothing'} for {named}")


def is_local_name(name: str) -> bool:
    """Names of a local network, which a parent may know and no sandbox has business with."""
    return "." not in name or name.endswith(LOCAL_SUFFIXES)
