"""Pid 1 of a sandbox after code inside took it over: it does what /home/daytona/evil says.

It is honest without that file. Runs inside as __main__.py beside the real agent, whose own __main__
is there as honest.py.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import honest  # type: ignore[import-not-found]


def orders() -> str:
    try:
        with open("/home/daytona/evil") as file:
            return file.read().strip()
    except OSError:
        return ""


def loaded_socket() -> int:
    """A UNIX socket with more descriptors waiting in it."""
    ours, theirs = socket.socketpair()
    for _ in range(4):
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 0, 0]))])
    return theirs.detach()


def opened(path: str, flags: int = os.O_RDONLY) -> int:
    return os.open(path, flags)


def memory_file() -> int:
    """A regular file that has no path and no disk."""
    fd = os.memfd_create("evil")
    os.pwrite(fd, b"mine", 0)
    return fd


def fifo() -> int:
    """One that nobody writes to, and that would block who opened it plainly."""
    if not os.path.exists("/tmp/fifo"):
        os.mkfifo("/tmp/fifo")
    return os.open("/tmp/fifo", os.O_RDWR)


def lingering() -> int:
    """A socket whose last close waits for ten minutes, for a reader that does not read."""
    server = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(server.getsockname())
    KEPT.append(server.accept()[0])
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    ours.setblocking(False)
    try:
        while True:
            ours.send(b"x" * 65536)
    except BlockingIOError:
        return ours.detach()


def blocking(fds: Sequence[int]) -> None:
    """From now on whoever reads these descriptions waits; a child sees to it again and again."""
    if os.fork() == 0:
        while True:
            for fd in fds:
                os.set_blocking(fd, True)
            time.sleep(0.001)


def listening() -> int:
    found = socket.create_server(("127.0.0.1", 0))
    return found.detach()


EVENTS = {"lingering in an event": 1, "lingering in the queue": 20}
KEPT: list[socket.socket] = []
DESCRIPTORS: dict[str, Callable[[], list[int]]] = {
    "device": lambda: [opened("/dev/zero")],
    "folder": lambda: [opened("/")],
    "procfs": lambda: [opened("/proc/self/status")],
    "pipe": lambda: [os.pipe()[0]],
    "unix socket": lambda: [loaded_socket()],
    "memory file": lambda: [memory_file()],
    "fifo": lambda: [fifo()],
    "path only": lambda: [opened("/etc/passwd", os.O_PATH)],
    "write only": lambda: [opened("/home/daytona/evil", os.O_WRONLY)],
    "listening socket": lambda: [listening()],
    "two files": lambda: [opened("/etc/passwd"), opened("/etc/passwd")],
    "none": list,
    "lingering sockets": lambda: [lingering() for _ in range(4)],
}
MESSAGES = {
    "bytes": b"\xff\x00" * 500,
    "number": b"7",
    "deep": b"[" * 100_000,
    "long": b" " * 200_000,
    "unknown exit": json.dumps({"event": "exit", "key": "nobody", "code": 10**30}).encode(),
    "odd exit": b'{"event": "exit", "key": {"a": []}, "code": []}',
    "infinite exit": b'{"event": "exit", "key": "a", "code": 1e999}',
    "unhashable id": b'{"id": {}}',
    "infinite error": b'{"id": 1, "error": 1e999, "message": 1}',
}
FILE_ANSWERS = {
    "nothing": b"",
    "endless error": b'{"error": 1e999, "message": ""}',
    "enormous error": b'{"error": 1' + b"0" * 30 + b', "message": ""}',
    "null error": b'{"error": null, "message": null}',
    "number": b'{"value": 7}',
    "list": b'{"value": [7, null]}',
    "deep": b'{"value": ' + b"[" * 30_000,
    "half a letter": b'{"value": "\\ud800"}',
    "not a number": b'{"value": NaN}',
}


class Hostile(honest.Agent):  # type: ignore[misc]
    """Answers as it was told to."""

    def answer(self, request: dict[str, Any], fds: list[int]) -> None:
        order = orders()
        kind, _, rest = order.partition(" ")
        if order in DESCRIPTORS:
            self.give({"id": request["id"], "pid": 1}, DESCRIPTORS[order]())
        elif order in MESSAGES:
            self.control.send(MESSAGES[order])
            super().answer(request, fds)
        elif order in EVENTS:
            for _ in range(EVENTS[order]):
                self.give({"event": "ready"}, [lingering() for _ in range(4)])
        elif order == "blocking" and request["op"] in ("fifos", "terminal"):
            self.answer_and_keep(request, fds)
        elif kind == "pid":
            self.send({"id": request["id"], "pid": json.loads(rest)})
        elif kind == "file" and request["op"] == "files":
            self.send({"id": request["id"]})
            os.write(fds[0], FILE_ANSWERS[rest])
        elif not self.misbehave(order, request, fds):
            super().answer(request, fds)

    def misbehave(self, order: str, request: dict[str, Any], fds: list[int]) -> bool:
        """Whether the order was one about when and how often to answer."""
        while order == "flood":
            self.control.send(MESSAGES["unknown exit"])
        while order == "flood with files":
            self.flood_with_files()
        if order == "silent":
            time.sleep(10_000)
        elif order == "late" and os.fork() == 0:
            time.sleep(1)
            super().answer(request, fds)
            os._exit(0)
        elif order == "twice":
            super().answer(request, fds)
            for number in (
                request["id"],
                request["id"] - 1,
                request["id"] + 1,
                -1,
                0,
                1.0,
                None,
                True,
            ):
                self.answer_with_a_file(number)
        return order in ("late", "twice")

    def answer_and_keep(self, request: dict[str, Any], fds: list[int]) -> None:
        """An honest answer, whose descriptors stay this process's too."""
        values, out = self.operations[request["op"]](request, fds)
        blocking(out)
        self.give({"id": request["id"], **values}, out)

    def give(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        """The last copies of them are the server's then."""
        self.send(message, fds)
        for fd in fds:
            os.close(fd)

    def flood_with_files(self) -> None:
        files = [opened("/etc/passwd") for _ in range(4)]
        self.send({"id": -1}, files)
        for fd in files:
            os.close(fd)

    def answer_with_a_file(self, number: object) -> None:
        fd = opened("/etc/passwd")
        self.send({"id": number, "pid": 1}, [fd])
        os.close(fd)

    def answer_one(self) -> bool:
        more: bool = super().answer_one()
        if not more and orders() == "deaf":
            time.sleep(10_000)
        return more


honest.Agent = Hostile
if len(sys.argv) == 2:
    honest.main()
