"""Ends the sandbox that holds the server's loop: a thread asks the kernel what the loop waits for.

A first process that its own code took over shares the descriptors that it handed out: O_NONBLOCK
and SO_LINGER are the description's, so it can make a read, a write or a close of the server's wait.
Nothing of that can be known beforehand. So a thread looks (/proc/self/task/TID/syscall, proc(5)),
and what waits in a call on such a descriptor ends with its sandbox.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.2  # two looks alike are a wait
CLOSE = {"x86_64": 3, "aarch64": 57}.get(platform.machine(), -1)
# Nobody's: its default is to be ignored, and a handler makes the call that waits return.
WAKING = signal.SIGURG
REASON = "the sandbox made this server wait"


class Received:
    """The descriptors that came from one sandbox; `end` ends it, from any thread."""

    def __init__(self, end: Callable[[str], None]) -> None:
        self.end = end
        self._inodes: dict[int, int] = {}
        EVERY.add(self)

    def note(self, fds: Iterable[int]) -> None:
        for fd in fds:
            self._inodes[fd] = os.fstat(fd).st_ino

    def holds(self, fd: int) -> bool:
        """Whether this number still is what came; the server may have closed and used it again."""
        with contextlib.suppress(OSError):
            return fd in self._inodes and os.fstat(fd).st_ino == self._inodes[fd]
        return False


EVERY: weakref.WeakSet[Received] = weakref.WeakSet()


class LoopGuard:
    """Watches the thread that makes it, until `stop`."""

    def __init__(self) -> None:
        self._task = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._watched = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop guard", daemon=True)

    def start(self) -> None:
        signal.signal(WAKING, lambda *_: None)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before: tuple[str, ...] = ()
        while not self._over.wait(LOOK_EVERY_S):
            now = self._moment()
            try:
                if now and now == before:
                    self._free(now[0].split())
            except Exception:  # whatever it was: without the next look there would be no guard
                log.exception("the loop guard could not look")
            before = now

    def _moment(self) -> tuple[str, ...]:
        """The call that it is in and how often it was switched; nothing while it runs."""
        try:
            call = (self._task / "syscall").read_text()
            status = (self._task / "status").read_text()
        except OSError:  # this kernel does not say
            return ()
        return (call, status[status.find("voluntary_ctxt") :]) if call[0].isdigit() else ()

    def _free(self, call: list[str]) -> None:
        """End the wait, if it is one on what a sandbox gave; else it is the server's own."""
        number, fd = int(call[0]), int(call[1], 16)
        if number == CLOSE:  # the descriptor is gone, and nobody can say whose it was
            signal.pthread_kill(self._watched, WAKING)
            return
        for received in list(EVERY):
            if received.holds(fd):
                received.end(REASON)
                # In a thread of its own: what ends another's wait may itself wait.
                threading.Thread(target=shut, args=(received, fd), daemon=True).start()
                signal.pthread_kill(self._watched, WAKING)


def shut(received: Received, fd: int) -> None:
    """Whoever waits on a socket returns, also where its other end is in this server's queue."""
    with contextlib.suppress(OSError):
        mine = os.dup(fd)
        if received.holds(fd):
            with socket.socket(fileno=mine) as found:
                found.shutdown(socket.SHUT_RDWR)
