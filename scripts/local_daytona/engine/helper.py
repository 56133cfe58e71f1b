"""What only the sandboxes' owner may do to one from outside: `namespace.py` does it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
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
        return self._open(network, "catch", CAUGHT)

    def connect(self, network: int, host: str, port: int) -> socket.socket:
        """Connected, or being connected; raises OSError, as connect(2) does."""
        return self._open(network, f"connect {host} {port}", 1)[0]

    def limit(self, pid: int, limits: Mapping[int, int]) -> None:
        """Set a process's limits, {number: value}; raises OSError."""
        pairs = " ".join(f"{number}:{value}" for number, value in limits.items())
        self._open(None, f"limit {pid} {pairs}", 0)

    def _open(self, network: int | None, wanted: str, number: int) -> list[socket.socket]:
        """One question at a time; sockets that never block."""
        with self._asking:
            try:
                found = self._ask(network, wanted, number)
            except ConnectionResetError:  # somebody killed the helper; another is started
                found = self._ask(network, wanted, number)
        for each in found:
            each.setblocking(False)
        return found

    def _ask(self, network: int | None, wanted: str, number: int) -> list[socket.socket]:
        """A helper that does not answer is replaced by the next call."""
        said, fds = self._exchange(network, wanted)
        if not said:
            self._forget()
            raise ConnectionResetError("the program that opens its sockets ended")
        if said != DONE or len(fds) != number:
            code, _, reason = said.decode(errors="replace").partition(" ")
            raise OSError(int(code), reason)
        return [socket.socket(fileno=fd) for fd in fds]

    def _exchange(self, network: int | None, wanted: str) -> tuple[bytes, list[int]]:
        if self._server is None:
            self._server = self._start()
        try:
            brought = [] if network is None else [network]
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
