"""Asks `namespace.py` for the sockets to which every address of a sandbox leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..box import Box
from ..host import Owner

log = logging.getLogger(__name__)
# git over ssh, and the web; below 1024, where nothing inside may listen anyway.
PORTS = (22, 80, 443)
ANSWER_TIMEOUT_S = 10.0
LONGEST_REASON = 500


@dataclass(frozen=True)
class Caught:
    """The sockets of one sandbox, never blocking.

    What connects to `listeners` meant the address that it reached; `names` gets DNS questions.
    """

    listeners: Sequence[socket.socket]
    names: socket.socket

    def close(self) -> None:
        for each in (*self.listeners, self.names):
            each.close()


class Catcher:
    """The helper program of one server: started when first needed, ended with the server."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._asking = threading.Lock()
        self._server: socket.socket | None = None
        self.problem: str | None = "not tried yet"

    async def catch(self, box: Box) -> Caught | None:
        """To be called before anything runs in it.

        None where this host refuses; then `problem` says why.
        """
        try:
            caught = await asyncio.to_thread(self._catch, box)
        except (OSError, subprocess.SubprocessError) as error:
            if box.is_running:
                self.problem = str(getattr(error, "strerror", None) or error)
                log.info("sandbox %s has no transparent egress: %s", box.sandbox_id, self.problem)
            return None
        self.problem = None
        return caught

    def _catch(self, box: Box) -> Caught:
        network = box.network()
        try:
            with self._asking:
                found = self._ask_twice(network)
        finally:
            os.close(network)
        for each in found:
            each.setblocking(False)
        return Caught(found[:-1], found[-1])

    def _ask_twice(self, network: int) -> list[socket.socket]:
        try:
            return self._ask(network)
        except ConnectionError:  # somebody killed the helper; another is started
            return self._ask(network)

    def _ask(self, network: int) -> list[socket.socket]:
        """One question at a time; a helper that does not answer is replaced by the next call."""
        if self._server is None:
            self._server = self._start()
        try:
            socket.send_fds(self._server, [b"open"], [network])
            said, fds, _, _ = socket.recv_fds(
                self._server, LONGEST_REASON, len(PORTS) + 1, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            self._forget()
            raise
        if not said:
            self._forget()
        if len(fds) != len(PORTS) + 1:
            reason = said.decode(errors="replace")
            raise OSError(reason or "the program that opens its sockets ended")
        return [socket.socket(fileno=fd) for fd in fds]

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = (theirs.fileno(), self._owner.uid, self._owner.gid, *PORTS)
        program = str(Path(__file__).with_name("namespace.py"))
        ours.settimeout(ANSWER_TIMEOUT_S)
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.callback(ours.close)
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", program, *map(str, numbers)],
                pass_fds=(theirs.fileno(),),
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            unless_started.pop_all()
        self._end = weakref.finalize(self, end, ours, process)
        return ours

    def _forget(self) -> None:
        if self._server is not None:
            self._end()
            self._server = None


def end(server: socket.socket, process: subprocess.Popen[bytes]) -> None:
    server.close()
    process.kill()
    process.wait()
