"""Pid 1 of a sandbox: hands descriptors to the server over one control socket, and ends with it.

The agent runs inside the sandbox under the sandbox's own limits, with the standard library of
whatever python3 the host has (3.8 or newer). One SOCK_SEQPACKET message is one JSON object of at
most 128 KiB with the descriptors it speaks of.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import sys

import files
import processes
import sockets
from privileges import drop_everything, limit_namespace

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Values = dict[str, Any]
    Reply = tuple[Values, Sequence[int]]

MAX_MESSAGE = 128 * 1024
MAX_FDS = 4
# What a request that makes no sense raises; it ends no sandbox.
SENSELESS = (ValueError, TypeError, LookupError, OverflowError)


class Agent:
    """The control socket and the processes started over it."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.processes = processes.Processes()
        self.operations: dict[str, Callable[[Values, list[int]], Reply]] = {
            "exec": self.exec,
            "kill": self.kill,
            "open": self.open,
            "files": self.files,
            "fifos": self.fifos,
            "connect": self.connect,
            "listen": self.listen,
            "terminal": self.terminal,
        }

    def serve(self) -> None:
        """Answer until the server closes its end.

        Then the kernel ends every process of this pid namespace.
        """
        wakeup_r, wakeup_w = os.pipe()
        os.set_blocking(wakeup_r, False)
        os.set_blocking(wakeup_w, False)
        signal.set_wakeup_fd(wakeup_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wakeup_r, select.POLLIN)
        self.send({"event": "ready"})
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if wakeup_r in ready:
                drain(wakeup_r)
                self.report_exits()
            if self.control.fileno() in ready and not self.answer_one():
                return

    def report_exits(self) -> None:
        for key, code in self.processes.reap():
            self.send({"event": "exit", "key": key, "code": code})

    def answer_one(self) -> bool:
        fds = array.array("i")
        data, ancillary, _, _ = self.control.recvmsg(
            MAX_MESSAGE, socket.CMSG_LEN(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if not data:
            return False
        try:
            self.answer(json.loads(data.decode()), list(fds))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def answer(self, request: Values, fds: list[int]) -> None:
        reply: Values = {"id": request["id"]}
        out: Sequence[int] = []
        try:
            values, out = self.operations[request["op"]](request, fds)
            reply.update(values)
        except OSError as error:
            reply.update(error=error.errno or 0, message=error.strerror or str(error))
        except SENSELESS as error:
            reply.update(error=errno.EINVAL, message=str(error))
        try:
            self.send(reply, out)
        finally:
            for fd in out:
                os.close(fd)

    def send(self, message: Values, fds: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.control.sendmsg([data], rights)

    def exec(self, request: Values, fds: list[int]) -> Reply:
        return {"pid": self.processes.spawn(request, fds)}, []

    def kill(self, request: Values, _fds: list[int]) -> Reply:
        key, number, alone = request["key"], request["signal"], request["alone"]
        return {"found": self.processes.kill(key, number, alone=alone)}, []

    def open(self, request: Values, _fds: list[int]) -> Reply:
        return {}, [files.open_regular(request)]

    def files(self, request: Values, fds: list[int]) -> Reply:
        """Run a file operation in a child, which writes its answer to the pipe it was given."""
        self.processes.fork(request["key"], lambda: self.run_files(request, fds[0]))
        return {}, []

    @staticmethod
    def run_files(request: Values, answer: int) -> None:
        processes.limit(request.get("limits", {}))
        files.run(request, answer, keep=(answer,))

    def fifos(self, request: Values, _fds: list[int]) -> Reply:
        return {}, files.make_fifos(request["folder"], request["readers"], request["writers"])

    def connect(self, request: Values, _fds: list[int]) -> Reply:
        return {}, [sockets.connect(request)]

    def listen(self, request: Values, _fds: list[int]) -> Reply:
        return {}, [sockets.listen(request)]

    def terminal(self, request: Values, _fds: list[int]) -> Reply:
        """Start a program on a new terminal inside; the server gets the master's side."""
        master, slave = os.openpty()
        try:
            pid = self.processes.spawn(request, [slave, slave, slave])
        except OSError:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return {"pid": pid}, [master]


def drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    limit_namespace()
    drop_everything()
    try:
        Agent(control).serve()
    except (BrokenPipeError, ConnectionResetError):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
