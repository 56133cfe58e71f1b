"""What runs of a sandbox, started and ended: its box, its toolbox, its volumes' places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...engine import Engine
from ...errors import ApiError, FileProblem, SandboxGone
from ...isolation.box import Box
from ...isolation.mounts import LINK_SCRIPT, Mount, place_of
from ...isolation.rootfs import HOME
from ...isolation.spawning import spawn
from ...toolbox.toolbox import Toolbox
from ...wire import now
from .records import Record
from .register import Entry

LINK_TIMEOUT_S = 10.0


class Runtime:
    """Whatever a sandbox's state says; `on_boot` and `on_halt` follow what runs."""

    def __init__(
        self,
        engine: Engine,
        *,
        on_boot: Callable[[Entry], Awaitable[None]],
        on_halt: Callable[[Entry], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._on_boot = on_boot
        self._on_halt = on_halt

    async def boot(self, entry: Entry) -> Box:
        """Start its processes and give it a toolbox.

        Raises EngineUnavailable or OSError.
        """
        record = entry.record
        box = await self._engine.start(
            record.id,
            name=hostname(record),
            resources=record.resources,
            rules=record.rules,
            mounts=self._mounts(record),
        )
        entry.box = box
        own = {"DAYTONA_SANDBOX_SNAPSHOT": record.snapshot} if record.snapshot else {}
        env = {**own, **record.image_env, **record.env}
        entry.toolbox = Toolbox(box, env=env, work_dir=record.work_dir or HOME)
        record.last_activity_at = now()
        record.error_reason = None
        await self._on_boot(entry)
        return box

    def _mounts(self, record: Record) -> list[Mount]:
        mounts = {}
        for wanted in record.volumes:
            subpath = wanted.get("subpath", "")
            point, link = place_of(wanted["mountPath"], wanted["volumeId"], subpath)
            mounts[point] = Mount(self._engine.volume(wanted["volumeId"]), subpath, point, link)
        return list(mounts.values())

    async def link_volumes(self, entry: Entry) -> None:
        """Make the paths asked for lead to the volumes.

        Raises the 400 where the snapshot has files there.
        """
        for wanted in entry.record.volumes:
            subpath = wanted.get("subpath", "")
            point, link = place_of(wanted["mountPath"], wanted["volumeId"], subpath)
            if link is None or entry.box is None:
                continue
            if not await linked(entry.box, point, link):
                message = f"the volume cannot be mounted: the snapshot has files at {link}"
                raise ApiError(400, message)

    async def halt(self, entry: Entry) -> None:
        """End its processes; also when nothing runs."""
        box, toolbox, entry.box, entry.toolbox = entry.box, entry.toolbox, None, None
        await self._on_halt(entry)
        if toolbox is not None:
            await toolbox.close()
        if box is not None:
            await box.stop()


async def linked(box: Box, point: str, link: str) -> bool:
    """Make the path `link` inside lead to `point`; False when there are files in the way."""
    argv = ["/bin/sh", "-c", LINK_SCRIPT, "sh", point, link]
    try:
        program = await spawn(box.agent, argv, environment=box.environment(), cwd="/")
        return await asyncio.wait_for(program.running.exited, LINK_TIMEOUT_S) == 0
    except (FileProblem, SandboxGone, asyncio.TimeoutError):
        return False


def hostname(record: Record) -> str:
    """The id's first part: a name may hold what a host name may not."""
    return f"daytona-{record.id[:8]}"
