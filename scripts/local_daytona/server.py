"""One running server: engine, store, sandboxes, timers and HTTP put together."""

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

from .api import configuration
from .api.builds.logs import BuildLogs
from .api.builds.routes import BuildLogRoutes
from .api.builds.service import Builds
from .api.events import Events
from .api.file_links import FileLinks
from .api.host_router import HostRouter
from .api.previews.routes import PreviewRoutes
from .api.previews.service import Previews
from .api.sandboxes import timers
from .api.sandboxes.network import NetworkRoutes
from .api.sandboxes.register import Register
from .api.sandboxes.routes import SandboxRoutes
from .api.sandboxes.runtime import Runtime
from .api.sandboxes.service import Sandboxes
from .api.sandboxes.storage import Storage
from .api.snapshots.routes import SnapshotRoutes
from .api.snapshots.service import Snapshots
from .api.volumes.routes import VolumeRoutes
from .api.volumes.service import Volumes
from .app import KEEP_ALIVE_S, Authenticator, make_app
from .egress.policy import Network
from .egress.upstream import Upstream
from .engine import Engine
from .errors import now
from .http_server import LONGEST_LINE, JsonRunner
from .isolation.loop_guard import LoopGuard
from .lifecycle import ServerFile, new_key
from .store import Store
from .toolbox.routes import routes as toolbox_routes

log = logging.getLogger(__name__)
BACKLOG = 1024
SHUTDOWN_S = 0.3  # sandboxes are ended by then, so whoever still waits for an answer has got it


@dataclass(frozen=True)
class Settings:
    """How to serve: where state lives, which port (0: any free one), the seconds of a minute.

    `allow_ranges` are private networks that sandboxes may reach after all; `images` are names that
    a Dockerfile may begin with and that mean this machine's own system.
    """

    state: Path
    version: str
    port: int = 0
    minute: float = 60.0
    allow_ranges: tuple[Network, ...] = ()
    images: tuple[str, ...] = ()


class Server:
    """Local Daytona on one state folder, which the caller has locked."""

    def __init__(
        self, settings: Settings, engine: Engine, store: Store, listener: socket.socket
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._listener = listener
        self._last_request = now()
        self._ended = asyncio.Event()
        port = listener.getsockname()[1]
        self.file = ServerFile(f"http://127.0.0.1:{port}", os.getpid(), settings.version, new_key())
        self._channel = Events(self.file.api_key)
        toolbox_url = f"{self.file.url}/toolbox"
        self._register = Register(store, toolbox_url=toolbox_url, minute=settings.minute)
        self._previews = Previews(self._register, api_key=self.file.api_key, port=port)
        runtime = Runtime(
            engine, on_boot=self._previews.open_listeners, on_halt=self._previews.close_all
        )
        self._storage = Storage(engine)
        self._build_logs = BuildLogs(settings.state / "builds")
        self._sandboxes = Sandboxes(
            self._register,
            runtime,
            self._storage,
            self._channel,
            apply_rules=engine.egress.apply,
            on_removed=self._build_logs.forget,
        )
        self._snapshots = Snapshots(engine, store, images=settings.images)
        self._volumes = Volumes(engine, store, self._register, self._storage)
        self._builds = Builds(
            self._register,
            runtime,
            self._storage,
            self._sandboxes,
            self._snapshots,
            self._build_logs,
        )

    async def run(self) -> None:
        """Recover, serve until a signal or idleness ends it, and leave nothing running."""
        self._snapshots.recover()
        self._volumes.recover()
        await self._sandboxes.recover()
        self._builds.recover()
        runner = JsonRunner(
            self._app(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        await runner.setup()
        listening = await self._listen(runner)
        self.file.write(self._settings.state)
        clock = asyncio.create_task(self._run_timers())
        log.info("serving at %s, engine %s", self.file.url, self._engine.describe())
        try:
            await self._until_signalled()
        finally:
            clock.cancel()
            ServerFile.path(self._settings.state).unlink(missing_ok=True)
            await self._builds.close()
            await self._sandboxes.close()
            await self._channel.close()
            listening.close()
            await runner.cleanup()

    async def _run_timers(self) -> None:
        await timers.run(
            self._register,
            self._sandboxes,
            last_request=lambda: self._last_request,
            exit_server=self._ended.set,
        )

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        api = runner.server
        assert api is not None  # the runner was set up
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: HostRouter(self._previews, api), sock=self._listener, backlog=BACKLOG
        )

    def _app(self) -> web.Application:
        links = FileLinks(self._register)
        port = self._listener.getsockname()[1]
        authenticator = Authenticator(
            port=port,
            api_key=self.file.api_key,
            on_request=self._note_request,
            is_signed=links.admits,
        )
        control = SandboxRoutes(
            self._register,
            self._sandboxes,
            self._snapshots,
            self._builds,
            self._volumes,
            status=self.status,
        )
        snapshots = SnapshotRoutes(
            self._snapshots,
            self._register,
            self._sandboxes,
            self._storage,
            self._builds,
            self._build_logs,
        )
        routes = [
            *control.routes(),
            *snapshots.routes(),
            *VolumeRoutes(self._volumes).routes(),
            *NetworkRoutes(self._register, self._sandboxes).routes(),
            *PreviewRoutes(self._register, self._previews).routes(),
            *BuildLogRoutes(self._register, self._snapshots, self._build_logs).routes(),
            *links.routes(),
            configuration.route(url=self.file.url, version=self.file.version),
            *toolbox_routes(self._register.toolbox),
        ]
        return make_app(authenticator=authenticator, routes=routes, channel=self._channel)

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
            "images": list(self._snapshots.images),
            "sandboxes": [
                self._register.as_list_item(managed.record) for managed in self._register
            ],
        }


async def serve(settings: Settings, upstream: Upstream | None = None) -> None:
    """Serve until told to end; `outside` replaces this host's own way out.

    Raises EngineUnavailable when sandboxes cannot be isolated here, OSError for a taken port.
    """
    raise_descriptor_limit()
    upstream = upstream or Upstream.of_this_host(os.environ, settings.allow_ranges)
    engine = await Engine.open(settings.state, upstream)
    listener = socket.create_server(("127.0.0.1", settings.port), backlog=BACKLOG)
    store = Store(settings.state / "local.sqlite")
    guard = LoopGuard()
    guard.start()
    with contextlib.closing(store):
        try:
            await Server(settings, engine, store, listener).run()
        finally:
            guard.stop()


def raise_descriptor_limit() -> None:
    """Each sandbox costs two descriptors, each command a few more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
