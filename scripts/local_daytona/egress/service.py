"""Egress of all sandboxes of a server: opens a gateway in each, changes its rules, describes it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

from ..errors import EngineUnavailable, FileProblem, SandboxGone
from ..isolation.helper import PORTS, PROXY
from ..isolation.running_sandbox import RunningSandbox
from .gateway import Gateway
from .policy import Rules
from .transparent import TransparentEgress
from .upstream import Upstream

log = logging.getLogger(__name__)


async def listen_inside(sandbox: RunningSandbox) -> socket.socket:
    """The proxy's listener from the sandbox's own first process, where nothing else can have one.

    Raises EngineUnavailable.
    """
    try:
        return await sandbox.agent.listen(*PROXY)
    except (FileProblem, SandboxGone, OSError) as error:
        raise EngineUnavailable(
            f"the sandbox's proxy does not listen: {error}", fix="create the sandbox again"
        ) from error


class Egress:
    """The gateways by sandbox id; each ends with its sandbox."""

    def __init__(self, upstream: Upstream, transparent: TransparentEgress) -> None:
        self._upstream = upstream
        self._transparent_egress = transparent
        self._gateways: dict[str, Gateway] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused_before = 0

    async def open(self, sandbox: RunningSandbox, rules: Rules) -> None:
        """Give a sandbox its way out, before anything runs in it; raises EngineUnavailable."""
        listeners = await self._transparent_egress.listen(sandbox)
        listener = listeners.proxy if listeners else await listen_inside(sandbox)
        gateway = Gateway(
            listener, self._upstream, rules, name=sandbox.sandbox_id, transparent=listeners
        )
        self._gateways[sandbox.sandbox_id] = gateway
        task = asyncio.create_task(self._run(sandbox, gateway))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, sandbox: RunningSandbox, gateway: Gateway) -> None:
        accepting = asyncio.create_task(gateway.run())
        closed = asyncio.create_task(sandbox.closed.wait())
        try:
            await asyncio.wait([accepting, closed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (accepting, closed):
                task.cancel()
            (problem, _) = await asyncio.gather(accepting, closed, return_exceptions=True)
            if isinstance(problem, OSError) and problem.errno != errno.EBADF:
                log.warning("egress of sandbox %s ended: %s", sandbox.sandbox_id, problem)
            self._refused_before += gateway.refused
            if self._gateways.get(sandbox.sandbox_id) is gateway:
                del self._gateways[sandbox.sandbox_id]

    def apply(self, sandbox_id: str, rules: Rules) -> None:
        """Enforce new rules at once; nothing to do for a sandbox that does not run."""
        gateway = self._gateways.get(sandbox_id)
        if gateway is not None:
            gateway.apply(rules)

    def describe(self) -> dict[str, Any]:
        """The egress part of `status`."""
        proxies = str(self._upstream.proxies)
        gateways = self._gateways.values()
        return {
            "egress": f"proxy, through {proxies}" if proxies else "proxy",
            "egress_transparent": self._transparent(),
            "egress_allow_ranges": [str(network) for network in self._upstream.filter.opened],
            "egress_connections": sum(gateway.open_connections for gateway in gateways),
            "egress_refused": self._refused_before + sum(gateway.refused for gateway in gateways),
        }

    def _transparent(self) -> str:
        """As the last sandbox found it."""
        problem = self._transparent_egress.problem
        return f"no: {problem}" if problem else f"ports {', '.join(map(str, PORTS))}, and names"
