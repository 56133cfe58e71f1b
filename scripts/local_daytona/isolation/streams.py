"""Pipes on the event loop: read, fed and waited for without ever holding it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

READ_CHUNK = 256 * 1024


async def read_all(fd: int, *, limit: int, timeout_s: float | None = None) -> bytes:
    """All of a pipe up to `limit` bytes, the rest read and dropped; closes it.

    After `timeout_s` what came until then.
    """
    data = bytearray()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_collect(fd, data, limit), timeout_s)
    return bytes(data)


async def _collect(fd: int, data: bytearray, limit: int) -> None:
    async for chunk in chunks(fd):
        data += chunk[: max(0, limit - len(data))]


async def chunks(fd: int) -> AsyncIterator[bytes]:
    """What arrives in a pipe, until every writer has closed it; closes `fd` at the end.

    It waits before it reads: a FIFO that nobody has opened yet reads as ended.
    """
    os.set_blocking(fd, False)
    try:
        await readable(fd)
        while True:
            try:
                chunk = os.read(fd, READ_CHUNK)
            except BlockingIOError:
                await readable(fd)
                continue
            if not chunk:
                return
            yield chunk
            await asyncio.sleep(0)  # a writer as fast as this would keep all others waiting
    finally:
        os.close(fd)


async def readable(fd: int) -> None:
    """Wait until `fd` has data or its end to read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Wait until `fd` takes data, or its reader is gone."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)


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
