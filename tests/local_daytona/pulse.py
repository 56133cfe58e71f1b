"""How long the server's loop stands still: it is asked again and again beside something else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.local_server import LocalServer

PAUSE_S = 0.02


@dataclass
class Pulse:
    """The longest wait for an answer that costs the server nothing, in seconds."""

    longest: float = 0.0
    number: int = 0


@contextmanager
def pulse(server: LocalServer) -> Iterator[Pulse]:
    found, over = Pulse(), threading.Event()

    def ask() -> None:
        while not over.wait(PAUSE_S):
            began = time.monotonic()
            server.request("GET", "/api/health")
            found.longest = max(found.longest, time.monotonic() - began)
            found.number += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
