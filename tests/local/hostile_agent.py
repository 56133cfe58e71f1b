"""Pid 1 of a sandbox after code inside took it over: it does what the file /home/daytona/evil says, and is honest without one.

Runs inside the sandbox as __main__.py beside the real agent, whose own __main__ is there as honest.py.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
import time
from collections.abc import Callable
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


def opened(path: str) -> int:
    return os.open(path, os.O_RDONLY)


DESCRIPTORS: dict[str, Callable[[], list[int]]] = {
    "device": lambda: [opened("/dev/zero")],
    "folder": lambda: [opened("/")],
    "procfs": lambda: [opened("/proc/self/status")],
    "pipe": lambda: [os.pipe()[0]],
    "unix socket": lambda: [loaded_socket()],
    "two files": lambda: [opened("/etc/passwd"), opened("/etc/passwd")],
    "none": list,
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


class Hostile(honest.Agent):  # type: ignore[misc]
    """Answers as it was told to."""

    def answer(self, request: dict[str, Any], fds: list[int]) -> None:
        order = orders()
        if order in DESCRIPTORS:
            self.send({"id": request["id"], "pid": 1}, DESCRIPTORS[order]())
        elif order in MESSAGES:
            self.control.send(MESSAGES[order])
            super().answer(request, fds)
        elif order.startswith("pid "):
            self.send({"id": request["id"], "pid": json.loads(order[4:])})
        elif order == "flood":
            while True:
                self.control.send(MESSAGES["unknown exit"])
        elif order == "silent":
            time.sleep(10_000)
        else:
            super().answer(request, fds)

    def answer_one(self) -> bool:
        more: bool = super().answer_one()
        if not more and orders() == "deaf":
            time.sleep(10_000)
        return more


honest.Agent = Hostile
if len(sys.argv) == 2:
    honest.main()
