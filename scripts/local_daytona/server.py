"""One running server: engine, store, sandboxes, timers and HTTP put together, from bind to the last goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from .app import KEEP_ALIVE_S, Gate, make_app
from .control import timers
from .control.events import Events
from .control.routes import ControlRoutes
from .control.sandboxes import Sandboxes
from .engine.engine import Engine
from .lifecycle import ServerFile, new_key
from .store import Store
from .toolbox.routes import routes as toolbox_routes
from .wire import now

log = logging.getLogger(__name__)
SHUTDOWN_S = 0.3  # sandboxes are ended by then, so whoever still waits for an answer has got it


@dataclass(frozen=True)
class Settings:
    """How to serve: where state lives, which port (0: any free one), and how long a minute lasts in seconds."""

    state: Path
    version: str
    port: int = 0
    minute: float = 60.0


class Server:
    """Local Daytona on one state folder, which the caller has locked."""

    def __init__(self, settings: Settings, engine: Engine, store: Store, listener: socket.socket) -> None:
        self._settings = settings
        self._engine = engine
        self._listener = listener
        self._last_request = now()
        self._ended = asyncio.Event()
        port = listener.getsockname()[1]
        self.file = ServerFile(f"http://127.0.0.1:{port}", os.getpid(), settings.version, new_key())
        self._channel = Events(self.file.api_key)
        self._sandboxes = Sandboxes(engine, store, self._channel, toolbox_url=f"{self.file.url}/toolbox", minute=settings.minute)

    async def run(self) -> None:
        """Recover, serve until a signal or idleness ends it, and leave nothing running."""
        await self._sandboxes.recover()
        runner = web.AppRunner(self._app(), access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        self.file.write(self._settings.state)
        clock = asyncio.create_task(timers.run(self._sandboxes, last_request=lambda: self._last_request, exit_server=self._ended.set))
        log.info("serving at %s, engine %s", self.file.url, self._engine.describe())
        try:
            await self._until_signalled()
        finally:
            clock.cancel()
            ServerFile.path(self._settings.state).unlink(missing_ok=True)
            await self._sandboxes.close()
            await self._channel.close()
            await runner.cleanup()

    def _app(self) -> web.Application:
        gate = Gate(port=self._listener.getsockname()[1], api_key=self.file.api_key, on_request=self._note_request)
        control = ControlRoutes(self._sandboxes, status=self.status)
        return make_app(gate=gate, routes=[*control.routes(), *toolbox_routes(self._sandboxes)], channel=self._channel)

    def _note_request(self) -> None:
        self._last_request = now()

    async def _until_signalled(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._ended.set)
        await self._ended.wait()

    def status(self) -> dict[str, Any]:
        """The `status` interface; the key is not in it."""
        return {
            "running": True,
            "url": self.file.url,
            "pid": self.file.pid,
            "version": self.file.version,
            "engine": self._engine.describe(),
            "sandboxes": [self._sandboxes.as_list_item(entry.record) for entry in self._sandboxes],
        }


async def serve(settings: Settings) -> None:
    """Serve until told to end; raises EngineUnavailable when sandboxes cannot be isolated here, OSError for a taken port."""
    raise_descriptor_limit()
    engine = await Engine.open(settings.state)
    listener = socket.create_server(("127.0.0.1", settings.port), backlog=1024)
    store = Store(settings.state / "local.sqlite")
    with contextlib.closing(store):
        await Server(settings, engine, store, listener).run()


def raise_descriptor_limit() -> None:
    """Each sandbox costs two descriptors, each command a few more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
