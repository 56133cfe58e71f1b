"""The shell that commands run in, and how text reaches a program's stdin."""

from __future__ import annotations

import asyncio
import os

from ..engine.box import writable

SHELLS = ("/usr/bin/zsh", "/bin/bash", "/bin/sh")  # the daemon's order


def shell() -> str:
    """The first of the daemon's shells that this host has; /usr is the sandbox's too."""
    return next((path for path in SHELLS if os.path.exists(path)), SHELLS[-1])


async def feed(fd: int, data: bytes) -> None:
    """Write all of `data` to a pipe and close it; a reader that went away is no failure."""
    os.set_blocking(fd, False)
    view = memoryview(data)
    try:
        while view:
            try:
                view = view[os.write(fd, view) :]
                await asyncio.sleep(0)  # a reader as fast as this would keep all others waiting
            except BlockingIOError:
                await writable(fd)
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)
