"""What only the sandboxes' owner may do to one from outside: `namespace.py` does it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from .host import Owner
from .namespace import DONE, PROXY_HOST

PROXY = (PROXY_HOST, 3128)
# git over ssh, and the web; below 1024, where nothing inside may listen anyway.
PORTS = (22, 80, 443)
CAUGHT = 1 + len(PORTS) + 1  # the proxy's listener, the others, the name server's socket
ANSWER_TIMEOUT_S = 10.0
LONGEST_REASON = 500


class Helper:
    """The helper program of one server: started when first needed, ended with the server."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._asking = threading.Lock()
        self._server: socket.socket | None = None

    def catch(self, network: int) -> list[socket.socket]:
        """The proxy's listener, one of each of PORTS, and the name server's; raises OSError."""
        return self._open("catch", [network], CAUGHT)

    def connect(self, network: int, host: str, port: int) -> socket.socket:
        """Connected, or being connected; raises OSError, as connect(2) does."""
        return self._open(f"connect {host} {port}", [network], 1)[0]

    def measure(self, network: int, folder: int) -> tuple[int, int]:
        """Bytes and entries of a tree, closed folders included; raises OSError."""
        size, entries = self._numbers("measure", network, folder)
        return size, entries

    def buffers(self, network: int) -> int:
        """Bytes that wait in a namespace's sockets; raises OSError."""
        return self._numbers("buffers", network)[0]

    def _numbers(self, wanted: str, *brought: int) -> tuple[int, ...]:
        said, _ = self._ask(wanted, brought)
        return tuple(map(int, said.split()[1:]))

    def limit(self, pid: int, limits: Mapping[int, int]) -> None:
        """Set a process's limits, {number: value}; raises OSError."""
        pairs = " ".join(f"{number}:{value}" for number, value in limits.items())
        self._ask(f"limit {pid} {pairs}", [])

    def _open(self, wanted: str, brought: Sequence[int], number: int) -> list[socket.socket]:
        """Sockets that never block."""
        _, fds = self._ask(wanted, brought)
        found = [socket.socket(fileno=fd) for fd in fds]
        if len(found) != number:
            for each in found:
                each.close()
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        for each in found:
            each.setblocking(False)
        return found

    def _ask(self, wanted: str, brought: Sequence[int]) -> tuple[bytes, list[int]]:
        """One question at a time; a helper that somebody killed is started again.

        One that does not answer is replaced by the next call. Raises OSError.
        """
        with self._asking:
            for _ in range(2):
                said, fds = self._exchange(wanted, brought)
                if said.startswith(DONE):
                    return said, fds
                if said:
                    code, _, reason = said.decode(errors="replace").partition(" ")
                    raise OSError(int(code), reason)
                self._forget()
            raise ConnectionResetError("the program that opens its sockets ended")

    def _exchange(self, wanted: str, brought: Sequence[int]) -> tuple[bytes, list[int]]:
        if self._server is None:
            self._server = self._start()
        try:
            socket.send_fds(self._server, [wanted.encode()], brought)
            said, fds, _, _ = socket.recv_fds(
                self._server, LONGEST_REASON, CAUGHT, socket.MSG_CMSG_CLOEXEC
            )
        except (BrokenPipeError, ConnectionResetError):
            return b"", []
        except OSError:
            self._forget()
            raise
        return said, fds

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = (theirs.fileno(), self._owner.uid, self._owner.gid, PROXY[1], *PORTS)
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
