"""What runs of a sandbox, started and ended: its running, its toolbox, its volumes' places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...engine import Engine
from ...errors import ApiError, FileProblem, SandboxGone, now
from ...isolation.host_etc import HOME
from ...isolation.running_sandbox import RunningSandbox
from ...isolation.spawning import spawn
from ...isolation.volume_mounts import LINK_SCRIPT, Mount, place_of
from ...toolbox.toolbox import Toolbox
from .records import Record
from .register import ManagedSandbox

LINK_TIMEOUT_S = 10.0


class Runtime:
    """Whatever a sandbox's state says; `on_boot` and `on_halt` follow what runs."""

    def __init__(
        self,
        engine: Engine,
        *,
        on_boot: Callable[[ManagedSandbox], Awaitable[None]],
        on_halt: Callable[[ManagedSandbox], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._on_boot = on_boot
        self._on_halt = on_halt

    async def boot(self, managed: ManagedSandbox) -> RunningSandbox:
        """Start its processes and give it a toolbox.

        Raises EngineUnavailable or OSError.
        """
        record = managed.record
        running = await self._engine.start(
            record.id,
            name=hostname(record),
            resources=record.resources,
            rules=record.rules,
            mounts=self._mounts(record),
        )
        managed.running = running
        own = {"DAYTONA_SANDBOX_SNAPSHOT": record.snapshot} if record.snapshot else {}
        env = {**own, **record.image_env, **record.env}
        managed.toolbox = Toolbox(running, env=env, work_dir=record.work_dir or HOME)
        record.last_activity_at = now()
        record.error_reason = None
        await self._on_boot(managed)
        return running

    def _mounts(self, record: Record) -> list[Mount]:
        mounts = {}
        for wanted in record.volumes:
            subpath = wanted.get("subpath", "")
            point, link = place_of(wanted["mountPath"], wanted["volumeId"], subpath)
            mounts[point] = Mount(self._engine.volume(wanted["volumeId"]), subpath, point, link)
        return list(mounts.values())

    async def link_volumes(self, managed: ManagedSandbox) -> None:
        """Make the paths asked for lead to the volumes.

        Raises the 400 where the snapshot has files there.
        """
        for wanted in managed.record.volumes:
            subpath = wanted.get("subpath", "")
            point, link = place_of(wanted["mountPath"], wanted["volumeId"], subpath)
            if link is None or managed.running is None:
                continue
            if not await linked(managed.running, point, link):
                message = f"the volume cannot be mounted: the snapshot has files at {link}"
                raise ApiError(400, message)

    async def halt(self, managed: ManagedSandbox) -> None:
        """End its processes; also when nothing runs."""
        running, toolbox, managed.running, managed.toolbox = (
            managed.running,
            managed.toolbox,
            None,
            None,
        )
        await self._on_halt(managed)
        if toolbox is not None:
            await toolbox.close()
        if running is not None:
            await running.stop()


async def linked(running: RunningSandbox, point: str, link: str) -> bool:
    """Make the path `link` inside lead to `point`; False when there are files in the way."""
    argv = ["/bin/sh", "-c", LINK_SCRIPT, "sh", point, link]
    try:
        program = await spawn(running.agent, argv, environment=running.environment(), cwd="/")
        return await asyncio.wait_for(program.running.exited, LINK_TIMEOUT_S) == 0
    except (FileProblem, SandboxGone, asyncio.TimeoutError):
        return False


def hostname(record: Record) -> str:
    """The id's first part: a name may hold what a host name may not."""
    return f"daytona-{record.id[:8]}"
