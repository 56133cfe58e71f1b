"""A request handler on loopback in a thread of its own, for the fault proxy and instant server."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

START_TIMEOUT_S = 20
GOODBYE_S = 0.05  # transports of closed connections end in the loop's next rounds


@contextmanager
def serving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Its address, without a slash at the end."""
    urls: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=2**31)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        urls.append(f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()
        await asyncio.sleep(GOODBYE_S)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(START_TIMEOUT_S)
    try:
        yield urls[0]
    finally:
        stop.set()
        thread.join(START_TIMEOUT_S)
