"""The sandboxes of this server and their state machine; the only place where a state changes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..engine.box import Box
from ..engine.copying import Budget, CopyStopped
from ..engine.engine import Engine
from ..engine.errors import EngineUnavailable, FileProblem, SandboxGone
from ..engine.limits import GIB, Resources
from ..engine.mounts import LINK_SCRIPT, Mount, place_of
from ..engine.rootfs import HOME
from ..engine.spawning import spawn
from ..store import Store
from ..toolbox.toolbox import Toolbox
from ..wire import ApiError, now
from . import records
from .events import Events
from .records import Record
from .snapshots import LARGEST, Snapshot

log = logging.getLogger(__name__)
BUILDING = ("pending_build", "building_snapshot")
IN_TRANSITION = ("creating", "starting", "stopping", "destroying", "snapshotting", *BUILDING)
# Need not be stored: the next server takes whatever ran before for stopped.
ENDING = ("stopping", "stopped", "destroying", "error")
USABLE = ("started", "snapshotting")  # by its toolbox
# No event tells these: whoever waits would show the reason of its last poll, which is none
# (PROTOCOL.md, "Builds and their logs").
WITH_A_REASON = ("build_failed", "error")
AT_REST = ("stopped", "archived", "build_failed", "error")  # nothing of it runs
LINK_TIMEOUT_S = 10.0
LARGEST_COPY = LARGEST.disk * GIB
CANCELLED: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()


@dataclass
class Entry:
    """A record with what runs for it now.

    `in_flight` counts the toolbox requests that keep it active. `build` makes it, `copying` copies
    it to a snapshot: whoever ends the sandbox ends these first. `watcher` waits for its end.
    """

    record: Record
    box: Box | None = None
    toolbox: Toolbox | None = None
    in_flight: int = 0
    build: asyncio.Task[None] | None = field(default=None, repr=False)
    copying: asyncio.Task[None] | None = field(default=None, repr=False)
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)


class Sandboxes:
    """Create, find, start, stop and delete sandboxes.

    `minute` is the length of a minute in seconds. Whoever follows what runs sets `on_boot` and
    `on_halt`; `on_removed` is told each id that is gone.
    """

    def __init__(
        self, engine: Engine, store: Store, events: Events, *, toolbox_url: str, minute: float
    ) -> None:
        self._engine = engine
        self._table = store.sandboxes
        self._events = events
        self._toolbox_url = toolbox_url
        self.minute = minute
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.on_removed: Callable[[str], None] = lambda _sandbox_id: None
        self.on_boot: Callable[[Entry], Awaitable[None]] = nothing_more
        self.on_halt: Callable[[Entry], Awaitable[None]] = nothing_more

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def find(self, id_or_name: str) -> Entry:
        """By id or name; raises the 404."""
        entry = self._entries.get(self._names.get(id_or_name, id_or_name))
        if entry is None:
            raise ApiError(404, f"Sandbox with ID or name {id_or_name} not found")
        return entry

    def as_json(self, record: Record) -> dict[str, Any]:
        return records.sandbox(record, toolbox_url=self._toolbox_url, minute=self.minute)

    def as_list_item(self, record: Record) -> dict[str, Any]:
        return records.list_item(record, toolbox_url=self._toolbox_url, minute=self.minute)

    async def recover(self) -> None:
        """After a start: what ran is stopped with its files, what was ephemeral or due is gone."""
        for values in self._table:
            record = Record.from_stored(values)
            self._entries[record.id] = Entry(record)
            self._names[record.name] = record.id
        for entry in self:
            record = entry.record
            expires = record.expires_at(self.minute)
            unfinished = record.state in ("creating", "destroying")
            if record.ephemeral or unfinished or (expires is not None and expires <= now()):
                await self._remove(entry)
            elif record.state in BUILDING:
                await self.fail_build(entry, "local Daytona ended while it was built")
            elif record.state not in AT_REST:
                record.stopped_at = now()
                await self.set_state(entry, "stopped")
        for orphan in self._engine.stored() - set(self._entries):
            self._engine.discard(orphan)
        self.empty_trash()

    def add(self, record: Record) -> Entry:
        """Take a new record in, on disk; raises the 409 for a taken name."""
        if record.name in self._names or record.name in self._entries:
            raise ApiError(409, f"Sandbox with name {record.name} already exists")
        self._save(record)
        entry = self._entries[record.id] = Entry(record)
        self._names[record.name] = record.id
        return entry

    async def create(self, record: Record, base: Snapshot) -> Record:
        """Start a new sandbox.

        Raises the 409 for a taken name, the 503 when the engine cannot, the 507 of a full disk.
        """
        entry = self.add(record)
        try:
            await self.make_storage(record, base)
            await self._run_first(entry)
        except BaseException as error:
            await self._remove(entry)
            raise as_api_error(error) from error
        await self._events.created(self.as_json(record))
        return record

    async def make_storage(self, record: Record, base: Snapshot) -> None:
        """The sandbox's folders: new ones, or a copy of the snapshot's; raises OSError."""
        if base.general:
            await self._engine.make(record.id)
        else:
            await self._engine.make_from(record.id, base.id, Budget(bytes=LARGEST_COPY))

    async def start(self, entry: Entry) -> Record:
        """A started sandbox stays as it is; raises the 400 or 409 when it cannot be started now."""
        if entry.record.state == "started":
            return entry.record
        self._refuse_transition(entry)
        if entry.record.state not in ("stopped", "archived"):
            raise ApiError(400, f"Sandbox is not in valid state: {entry.record.state}")
        before = entry.record.state
        await self.set_state(entry, "starting")
        try:
            await self._run(entry)
        except BaseException as error:
            await self.halt(entry)
            entry.record.state = before
            await self.set_state(entry, before)
            raise as_api_error(error) from error
        return entry.record

    async def recover_from_error(self, entry: Entry) -> Record:
        """Start what ended in `error`; raises the 400 for anything else."""
        state = entry.record.state
        if not entry.record.recoverable:
            raise ApiError(400, f"Sandbox is not in a recoverable error state: {state}")
        entry.record.state = "stopped"
        return await self.start(entry)

    async def _run(self, entry: Entry) -> None:
        await self.boot(entry)
        await self._begin(entry)

    async def _run_first(self, entry: Entry) -> None:
        await self.boot(entry)
        await self._link_volumes(entry)
        await self._begin(entry)

    async def _begin(self, entry: Entry) -> None:
        if entry.record.entrypoint and entry.toolbox is not None:
            await entry.toolbox.sessions.run_entrypoint(entry.record.entrypoint)
        await self.set_state(entry, "started")

    async def boot(self, entry: Entry) -> None:
        """Start its processes and give it a toolbox, whatever its state says.

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
        entry.watcher = asyncio.create_task(self._watch(entry, box))
        record.last_activity_at = now()
        record.error_reason = None
        await self.on_boot(entry)

    def _mounts(self, record: Record) -> list[Mount]:
        mounts = {}
        for wanted in record.volumes:
            subpath = wanted.get("subpath", "")
            point, link = place_of(wanted["mountPath"], wanted["volumeId"], subpath)
            mounts[point] = Mount(self._engine.volume(wanted["volumeId"]), subpath, point, link)
        return list(mounts.values())

    async def _link_volumes(self, entry: Entry) -> None:
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

    def mounting(self, volume_id: str) -> bool:
        """Whether a sandbox, in whatever state, has this volume."""
        mounts = (mount for entry in self for mount in entry.record.volumes)
        return any(mount["volumeId"] == volume_id for mount in mounts)

    async def _watch(self, entry: Entry, box: Box) -> None:
        """Stop a sandbox whose agent ended by itself, as a container whose pid 1 ended.

        One that the server ended for what it used ends in `error`.
        """
        await box.closed.wait()
        if entry.box is not box or entry.record.state != "started":
            return
        entry.record.error_reason = box.ended_because or "the sandbox ended by itself"
        log.warning("sandbox %s is over: %s", entry.record.id, entry.record.error_reason)
        if box.ended_because is None:
            await self.stop(entry)
        else:
            await self._fail(entry)

    async def _fail(self, entry: Entry) -> None:
        """End what used too much in `error`; its files stay, and `recover` starts it again.

        An ephemeral one is deleted a minute later (timers), so that its client can ask why.
        """
        await self.set_state(entry, "stopping")
        await self.halt(entry)
        entry.record.stopped_at = now()
        await self.set_state(entry, "error")

    async def stop(self, entry: Entry) -> Record:
        """End every process, keep files; delete an ephemeral sandbox. Raises the 400 or 409."""
        self._refuse_transition(entry)
        if entry.record.state != "started":
            raise ApiError(400, f"Sandbox is not in a stoppable state: {entry.record.state}")
        if entry.record.ephemeral:
            return await self.delete(entry)
        await self.set_state(entry, "stopping")
        await self.halt(entry)
        entry.record.stopped_at = now()
        await self.set_state(entry, "stopped")
        return entry.record

    async def archive(self, entry: Entry) -> Record:
        """Put a stopped sandbox in Daytona's cheaper state, from which it starts again.

        Here its files stay where they are.
        """
        self._refuse_transition(entry)
        state = entry.record.state
        if state != "stopped" or entry.record.ephemeral:
            message = f"Sandbox is not stopped, or ephemeral, and cannot be archived: {state}"
            raise ApiError(400, message)
        await self.set_state(entry, "archived")
        return entry.record

    async def resize(self, entry: Entry, size: Resources) -> Record:
        """More of everything while it is stopped, more cpu and memory while it runs.

        Raises the 400 for what Daytona refuses.
        """
        self._refuse_transition(entry)
        record, old = entry.record, entry.record.resources
        if record.state not in ("started", "stopped"):
            raise ApiError(400, f"Sandbox is not in valid state: {record.state}")
        if size == old:
            raise ApiError(400, "Sandbox already has this size")
        if size.disk < old.disk:
            raise ApiError(400, "Disk can only be increased")
        shrinks = size.cpu < old.cpu or size.memory < old.memory
        if record.state == "started" and (shrinks or size.disk != old.disk):
            message = "Stop the Sandbox to change its disk, or to take cpu or memory away"
            raise ApiError(400, message)
        record.cpu, record.memory, record.disk = size.cpu, size.memory, size.disk
        self._save(record)
        if entry.box is not None:
            await entry.box.resize(size)
        return record

    async def save_as(self, entry: Entry, snapshot: Snapshot) -> None:
        """Copy a sandbox's files to the new `snapshot`, also while it runs.

        Raises the 400, 409, 503 or 507.
        """
        self._refuse_transition(entry)
        old = entry.record.state
        if old not in ("started", "stopped"):
            message = f"Sandbox must be started or stopped to make a snapshot of it: {old}"
            raise ApiError(400, message)
        budget = Budget(bytes=LARGEST_COPY)
        await self.set_state(entry, "snapshotting")
        entry.copying = asyncio.create_task(self._engine.save(entry.record.id, snapshot.id, budget))
        try:
            await asyncio.wait({entry.copying})
            entry.copying.result()
        except BaseException as error:
            raise as_api_error(error) from error
        finally:
            entry.copying = None
            await self._return_to(entry, old)
        snapshot.size = round(budget.copied / GIB, 3)

    async def _return_to(self, entry: Entry, state: str) -> None:
        """Set the state before; a sandbox that ended meanwhile, by whatever, is stopped."""
        if state == "started" and (entry.box is None or entry.box.closed.is_set()):
            await self.halt(entry)
            entry.record.stopped_at = now()
            state = "stopped"
        entry.record.last_activity_at = now()
        await self.set_state(entry, state)

    async def run_built(self, entry: Entry) -> None:
        """Start what was built; raises EngineUnavailable, OSError or the 400 for a volume."""
        await self.halt(entry)
        await self._run_first(entry)

    async def fail_build(self, entry: Entry, reason: str) -> None:
        """The build's end that is no sandbox: its record stays and says why."""
        await self.halt(entry)
        self._engine.discard(entry.record.id)
        self.empty_trash()
        entry.record.error_reason = reason
        await self.set_state(entry, "build_failed")

    async def delete(self, entry: Entry) -> Record:
        """Every process ends, sockets close, files go; raises the 409 during another change."""
        await ended(entry.build)
        self._refuse_transition(entry)
        await self.set_state(entry, "destroying")
        await self._remove(entry)
        return entry.record

    async def _remove(self, entry: Entry) -> None:
        record = entry.record
        try:
            await self.halt(entry)
        except Exception:
            log.exception("ending sandbox %s", record.id)
        self._engine.discard(record.id)
        await self._forget(record)
        self.on_removed(record.id)
        self._entries.pop(record.id, None)
        if self._names.get(record.name) == record.id:
            del self._names[record.name]
        self.empty_trash()
        old, record.state = record.state, "destroyed"
        await self._events.state_changed(self.as_json(record), old=old)

    async def _forget(self, record: Record) -> None:
        """Take it off the database, which may need the room of what was just discarded.

        Raises the 507 of a disk that is full all the same; the sandbox can be deleted again.
        """
        try:
            self._table.forget(record.id)
        except ApiError:
            await self._engine.empty_trash()
            record.state = "error"  # not in transition, so that it can be deleted again
            self._table.forget(record.id)

    async def halt(self, entry: Entry) -> None:
        """End its processes, whatever its state says; also when nothing runs."""
        box, toolbox, entry.box, entry.toolbox = entry.box, entry.toolbox, None, None
        await self.on_halt(entry)
        if toolbox is not None:
            await toolbox.close()
        if box is not None:
            await box.stop()

    def empty_trash(self) -> None:
        """Free the disk of what was discarded, in the background."""
        task = asyncio.create_task(self._engine.empty_trash())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _refuse_transition(self, entry: Entry) -> None:
        if entry.record.state in IN_TRANSITION:
            raise ApiError(409, "Sandbox state change in progress")

    async def change(self, entry: Entry, **values: Any) -> Record:
        """Set plain fields of the record, on disk before it returns."""
        for name, value in values.items():
            setattr(entry.record, name, value)
        self._save(entry.record)
        return entry.record

    async def set_network(self, entry: Entry, **values: Any) -> Record:
        """New network settings, in force when this returns.

        Raises the 409 while the sandbox starts or ends.
        """
        self._refuse_transition(entry)
        record = entry.record
        for name, value in values.items():
            setattr(record, name, value)
        # First: a full disk must not leave a network open.
        self._engine.egress.apply(record.id, record.rules)
        self._save(record)
        return record

    async def set_state(self, entry: Entry, state: str) -> None:
        """Store the state and tell clients.

        Raises the 507 of a full disk, and then it is in its old state; only what ends a sandbox
        goes on, and makes room.
        """
        record = entry.record
        old, record.state = record.state, state
        try:
            self._save(record)
        except ApiError as error:
            if state not in ENDING:
                record.state = old
                raise
            words = "sandbox %s is %s, which could not be stored: %s"
            log.warning(words, record.id, state, error.message)
        if state not in WITH_A_REASON:
            await self._events.state_changed(self.as_json(record), old=old)

    def _save(self, record: Record) -> None:
        record.updated_at = now()
        self._table.save(record.id, record.name, record.as_stored())

    @contextlib.asynccontextmanager
    async def toolbox(self, id_or_name: str) -> AsyncIterator[Toolbox]:
        """The toolbox of a started sandbox, which is active meanwhile; raises the 404 or 400."""
        entry = self.find(id_or_name)
        if entry.toolbox is None or entry.record.state not in USABLE:
            reason = f" ({entry.record.error_reason})" if entry.record.state == "error" else ""
            state = f"Sandbox {id_or_name} is {entry.record.state}{reason}"
            raise ApiError(400, f"{state}: no IP address found. Is the Sandbox started?")
        entry.in_flight += 1
        entry.record.last_activity_at = now()
        try:
            yield entry.toolbox
        finally:
            entry.in_flight -= 1
            entry.record.last_activity_at = now()

    async def close(self) -> None:
        """At the server's end: delete ephemeral sandboxes, stop the others with their files."""
        for entry in self:
            await ended(entry.build)
            await ended(entry.copying)
        for entry in self:
            if entry.record.state == "snapshotting":  # whoever asked for it is answered after this
                entry.record.state = "started" if entry.box is not None else "stopped"
            with contextlib.suppress(ApiError):
                if entry.record.state == "started":
                    await self.stop(entry)
        await asyncio.gather(*self._background, return_exceptions=True)


async def ended(task: asyncio.Task[None] | None) -> None:
    """Cancel it once, whoever else does, and wait until it has cleaned up.

    A second cancel would end the cleaning up.
    """
    if task is not None and task is not asyncio.current_task():
        if task not in CANCELLED:
            CANCELLED.add(task)
            await asyncio.sleep(0)  # one that had not begun would never clean up
            task.cancel()
        await asyncio.wait({task})


async def linked(box: Box, point: str, link: str) -> bool:
    """Make the path `link` inside lead to `point`; False when there are files in the way."""
    argv = ["/bin/sh", "-c", LINK_SCRIPT, "sh", point, link]
    try:
        program = await spawn(box.agent, argv, environment=box.environment(), cwd="/")
        return await asyncio.wait_for(program.running.exited, LINK_TIMEOUT_S) == 0
    except (FileProblem, SandboxGone, asyncio.TimeoutError):
        return False


async def nothing_more(_entry: Entry) -> None:
    """What `on_boot` and `on_halt` do where nobody set them."""


def new_id() -> str:
    return str(uuid.uuid4())


def hostname(record: Record) -> str:
    """The id's first part: a name may hold what a host name may not."""
    return f"daytona-{record.id[:8]}"


def as_api_error(error: BaseException) -> BaseException:
    """Engine failures as answers; anything else stays what it is."""
    if isinstance(error, EngineUnavailable):
        return ApiError(503, f"local Daytona cannot start a sandbox: {error}. fix: {error.fix}")
    if isinstance(error, (CopyStopped, asyncio.CancelledError)):
        return ApiError(503, "local Daytona is ending")
    if isinstance(error, OSError) and error.errno == errno.ENOTEMPTY:  # where a volume shall be
        return ApiError(400, f"the volume cannot be mounted: {error.strerror}")
    if isinstance(error, OSError):
        reason = error.strerror or error
        return ApiError(507, f"local Daytona could not store the sandbox: {reason}")
    return error
