"""The sockets to which every address of a sandbox leads, or why this host has none."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ..isolation.helper import Helper
from ..isolation.running_sandbox import RunningSandbox

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransparentListeners:
    """The sockets of one sandbox, never blocking.

    What connects to `listeners` meant the address that it reached; what connects to `proxy` names
    it; `names` gets DNS questions.
    """

    proxy: socket.socket
    listeners: Sequence[socket.socket]
    names: socket.socket

    def close(self) -> None:
        for each in (self.proxy, *self.listeners, self.names):
            each.close()


class TransparentEgress:
    """Asks for the sockets of each sandbox; `problem` says why the last had none."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self.problem: str | None = "not tried yet"

    async def listen(self, sandbox: RunningSandbox) -> TransparentListeners | None:
        """To be called before anything runs in it.

        None where this host refuses; then `problem` says why.
        """
        try:
            listeners = await asyncio.to_thread(self._listen, sandbox)
        except (OSError, subprocess.SubprocessError) as error:
            if sandbox.is_running:
                self.problem = str(getattr(error, "strerror", None) or error)
                log.info(
                    "sandbox %s has no transparent egress: %s", sandbox.sandbox_id, self.problem
                )
            return None
        self.problem = None
        return listeners

    def _listen(self, sandbox: RunningSandbox) -> TransparentListeners:
        with sandbox.network() as network:
            found = self._helper.catch(network)
        return TransparentListeners(found[0], found[1:-1], found[-1])
