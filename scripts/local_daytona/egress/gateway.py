"""The ways out of one sandbox: accepts in its namespace, decides by its rules, cuts off by them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ..errors import Refused
from ..isolation.namespace import BACKLOG
from ..isolation.streams import readable
from . import messages, relay
from .fake_dns import LARGEST_QUERY, Names, Question
from .policy import Address, Rules, Target
from .transparent import TransparentListeners
from .upstream import Upstream, UpstreamProxy

log = logging.getLogger(__name__)
MOST_CONNECTIONS = 256
MOST_LOOKUPS = 4  # at once: each holds a thread for as long as the name servers take
HEAD_TIMEOUT_S = 20.0
UPSTREAM_TIMEOUT_S = 60.0
# At most 20 refusals a second; whoever else connects waits in the sandbox's own queue.
BUSY_PAUSE_S = 0.05
MOST_QUESTIONS = 32  # answered at once; then others are served, and a flood waits
LOGGED_REFUSALS = 20  # of one sandbox; then those whose number is a power of two
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
OTHER_LANGUAGES = (22, 443)  # to their clients an HTTP answer would be garbage; a reset is none
RESET = struct.pack("ii", 1, 0)  # SO_LINGER
UPSTREAM_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
# What a full machine answers to accept(), and a client that left already.
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)


Answer = Callable[[socket.socket], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """A decision: the target, its checked addresses, and the proxy, if any.

    There are no addresses when only the proxy can resolve the target.
    """

    target: Target
    addresses: tuple[Address, ...]
    proxy: UpstreamProxy | None

    def named(self, rules: Rules) -> str:
        """What the proxy is asked for: the name, by which proxies decide.

        Under a CIDR list it is the address that was checked.
        """
        return str(Target(str(self.addresses[0]), self.target.port) if rules.cidrs else self.target)


class Gateway:
    """One sandbox's way out. `run` accepts until it is cancelled; `apply` changes the rules."""

    def __init__(
        self,
        listener: socket.socket,
        upstream: Upstream,
        rules: Rules,
        *,
        name: str,
        transparent: TransparentListeners | None = None,
    ) -> None:
        self._listener = listener
        self._transparent = transparent
        self._names = Names()
        self._may_listen = asyncio.Event()
        self._upstream = upstream
        self._name = name
        self._connections: dict[asyncio.Task[None], Route | None] = {}
        self._lookups = asyncio.Semaphore(MOST_LOOKUPS)
        self.refused = 0
        self.apply(rules)

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def apply(self, rules: Rules) -> None:
        """From now on `rules`; open connections that they forbid end."""
        self._rules = rules
        self._listen_or_not()
        for task, route in list(self._connections.items()):
            if route is not None and not self._still_allowed(route):
                task.cancel()

    def _listen_or_not(self) -> None:
        """When all is blocked, the sandbox's own kernel refuses, which programs see at once."""
        if not self._rules.block_all:
            self._may_listen.set()
            return
        self._may_listen.clear()
        for listener in self._transparent.listeners if self._transparent else ():
            with contextlib.suppress(OSError):  # it did not listen
                listener.shutdown(socket.SHUT_RDWR)

    def _still_allowed(self, route: Route) -> bool:
        """Whether the rules admit every address of it: which one answered does not matter."""
        try:
            self._check(route)
        except Refused:
            return False
        return len(self._rules.admitted(list(route.addresses))) == len(route.addresses)

    async def run(self) -> None:
        """Accept until cancelled; then every connection ends and the sockets close."""
        tasks = [asyncio.ensure_future(each) for each in self._loops()]
        try:
            await asyncio.gather(*tasks)
        finally:
            await relay.end(tasks)
            self._listener.close()
            if self._transparent:
                self._transparent.close()
            await relay.end(list(self._connections))

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        loops = [self._accept_all(self._listener, self._answer)]
        if self._transparent:
            loops += [self._accept_while_allowed(each) for each in self._transparent.listeners]
            loops.append(self._name_all(self._transparent.names))
        return loops

    async def _accept_while_allowed(self, listener: socket.socket) -> None:
        while True:
            await self._may_listen.wait()
            listener.listen(BACKLOG)
            try:
                await self._accept_all(listener, self._answer_transparent)
            except OSError as error:
                if error.errno != errno.EINVAL:  # it was shut
                    raise

    async def _accept_all(self, listener: socket.socket, answer: Answer) -> None:
        while True:
            await self._accept(asyncio.get_running_loop(), listener, answer)

    async def _accept(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, answer: Answer
    ) -> None:
        try:
            client, _ = await loop.sock_accept(listener)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            await asyncio.sleep(BUSY_PAUSE_S)
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            await self._turn_away(client)
            return
        task = loop.create_task(self._serve(client, answer))
        self._connections[task] = None
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _turn_away(self, client: socket.socket) -> None:
        refusal = Refused(503, f"{MOST_CONNECTIONS} connections of this sandbox are open")
        with client, contextlib.suppress(OSError):
            if not was_reset(client):
                client.send(messages.refusal(refusal))
        await asyncio.sleep(BUSY_PAUSE_S)

    async def _serve(self, client: socket.socket, answer: Answer) -> None:
        with client:
            try:
                await answer(client)
            except Refused as refusal:
                self._note(refusal)
                if not was_reset(client):
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
            words = "egress of sandbox %s, refusal %d: %s"
            log.info(words, self._name, self.refused, refusal.reason)

    async def _answer(self, client: socket.socket) -> None:
        incoming = relay.Incoming(client)
        request = messages.parse(await self._head(incoming))
        route = await self._decide(request.target, tunnel=request.is_tunnel)
        self._keep(route)
        with await self._connect(route) as server:
            if request.is_tunnel:
                await self._tunnel(route, (incoming, client), server, CONNECTED)
                return
            absolute = route.named(self._rules) if route.proxy else ""
            more = tuple(route.proxy.headers()) if route.proxy else ()
            head = request.head(absolute=absolute, more=more)
            await asyncio.get_running_loop().sock_sendall(server, head)
            await relay.exchange(incoming, client, server, body=request.body)

    async def _answer_transparent(self, client: socket.socket) -> None:
        """A connection meant for the address at which it arrived, as by a CONNECT to that."""
        route = await self._decide(self._names.target(*client.getsockname()), tunnel=True)
        self._keep(route)
        with await self._connect(route) as server:
            await self._tunnel(route, (relay.Incoming(client), client), server, b"")

    async def _name_all(self, questions: socket.socket) -> None:
        """Answer for names: with fake IPs, and nothing is asked outside."""
        while True:
            await readable(questions.fileno())
            with contextlib.suppress(OSError):  # none is left, or who asked is gone
                for _ in range(MOST_QUESTIONS):
                    data, sender = questions.recvfrom(LARGEST_QUERY)
                    if question := Question.parse(data):
                        questions.sendto(self._name_one(question), sender)
                await asyncio.sleep(BUSY_PAUSE_S)

    def _name_one(self, question: Question) -> bytes:
        try:
            target = Target.parse(question.name, 443)
            self._rules.refuse_name(target)
        except Refused as refusal:
            if question.wants_address:
                self._note(refusal)
            return question.no_such_name()
        if not question.wants_address or target.address is not None:
            return question.answer()
        return question.answer(self._names.stand_in(target.host))

    async def _head(self, incoming: relay.Incoming) -> bytes:
        reading = incoming.until(b"\r\n\r\n", relay.LARGEST_HEAD)
        try:
            return await asyncio.wait_for(reading, HEAD_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise Refused(408, "the request did not come") from None

    def _keep(self, route: Route) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = route

    async def _decide(self, target: Target, *, tunnel: bool) -> Route:
        """Where to connect to; raises Refused."""
        self._rules.refuse_name(target)
        proxy = self._upstream.proxies.for_target(target, tunnel=tunnel)
        found = [target.address] if target.address else await self._look_up(target, proxy)
        route = Route(target, tuple(found), proxy)
        self._check(route)  # by the rules as they are after the lookup
        return Route(target, tuple(self._rules.admitted(found)), proxy)

    async def _look_up(self, target: Target, proxy: UpstreamProxy | None) -> list[Address]:
        """Resolved once; no address for a name that only the proxy resolves."""
        try:
            found = await self._upstream.addresses(target.host, self._lookups)
        except OSError:
            found = []
        if not found and (proxy is None or is_local_name(target.host)):
            raise Refused(502, f"{target.host} does not resolve")
        return found

    def _check(self, route: Route) -> None:
        """Raises Refused (403); one forbidden address of a name is enough."""
        self._rules.refuse_name(route.target)
        for address in route.addresses:
            word = self._upstream.filter.denies(address)
            if word is not None:
                which = "" if address == route.target.address else f"{address} is a "
                raise Refused(403, f"{route.target} refused: {which}{word} address")
        if self._rules.cidrs and not self._rules.admitted(list(route.addresses)):
            raise Refused(403, f"{route.target} refused: not on networkAllowList")

    async def _connect(self, route: Route) -> socket.socket:
        try:
            if route.proxy is not None:
                return await self._upstream.dial_proxy(route.proxy)
            return await self._upstream.dial_one(list(route.addresses), route.target.port)
        except OSError as error:
            where = f"the server's own proxy {route.proxy}" if route.proxy else str(route.target)
            raise Refused(502, f"cannot reach {where}: {error.strerror or error}") from None

    async def _tunnel(
        self,
        route: Route,
        client: tuple[relay.Incoming, socket.socket],
        server: socket.socket,
        hello: bytes,
    ) -> None:
        answers = relay.Incoming(server)
        if route.proxy is not None:
            await self._through(route.proxy, route.named(self._rules), answers, server)
        await asyncio.get_running_loop().sock_sendall(client[1], hello)
        await relay.tunnel(*client, answers, server)

    async def _through(
        self, proxy: UpstreamProxy, named: str, answers: relay.Incoming, server: socket.socket
    ) -> None:
        """Ask the proxy for a tunnel; raises Refused with its status."""
        lines = [f"CONNECT {named} HTTP/1.1", f"Host: {named}"]
        lines += [f"{name}: {value}" for name, value in proxy.headers()]
        question = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        await asyncio.get_running_loop().sock_sendall(server, question)
        reading = answers.until(b"\r\n\r\n", relay.LARGEST_HEAD)
        try:
            head = await asyncio.wait_for(reading, UPSTREAM_TIMEOUT_S)
        except (asyncio.TimeoutError, EOFError, OSError, Refused):
            head = b""
        match = UPSTREAM_STATUS.match(head)
        if match is None or not match[1].startswith(b"2"):
            said = match[1].decode() if match else "nothing"
            raise Refused(502, f"the server's own proxy {proxy} answered {said} for {named}")


def was_reset(client: socket.socket) -> bool:
    """Prepare a reset where the client's protocol has no words for a refusal; whether it has none.

    Closing the connection then is the answer.
    """
    if client.getsockname()[1] not in OTHER_LANGUAGES:
        return False
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return True


def is_local_name(name: str) -> bool:
    """Names of a local network, which a proxy may know and no sandbox has business with."""
    return "." not in name or name.endswith(LOCAL_SUFFIXES)
