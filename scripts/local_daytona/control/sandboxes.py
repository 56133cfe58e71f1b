"""The sandboxes of this server and their state machine; the only place where a state changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..engine.box import Box
from ..engine.engine import Engine
from ..engine.errors import EngineUnavailable
from ..store import Store
from ..toolbox.toolbox import Toolbox
from ..wire import ApiError, now
from . import records
from .events import Events
from .records import Record

log = logging.getLogger(__name__)
IN_TRANSITION = ("creating", "starting", "stopping", "destroying")


@dataclass
class Entry:
    """A record with what runs for it now; `in_flight` counts the toolbox requests that keep it active."""

    record: Record
    box: Box | None = None
    toolbox: Toolbox | None = None
    in_flight: int = 0
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)


class Sandboxes:
    """Create, find, start, stop and delete sandboxes. `minute` is the length of a minute in seconds (tests shorten it)."""

    def __init__(self, engine: Engine, store: Store, events: Events, *, toolbox_url: str, minute: float) -> None:
        self._engine = engine
        self._store = store
        self._events = events
        self._toolbox_url = toolbox_url
        self.minute = minute
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._background: set[asyncio.Task[None]] = set()

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
        """After a start: what ran is stopped with its files, what was ephemeral or past its time is gone."""
        for values in self._store.sandboxes():
            record = Record.from_stored(values)
            self._entries[record.id] = Entry(record)
            self._names[record.name] = record.id
        for entry in self:
            record = entry.record
            expires = record.expires_at(self.minute)
            unfinished = record.state in ("creating", "destroying")
            if record.ephemeral or unfinished or (expires is not None and expires <= now()):
                await self._remove(entry)
            elif record.state != "stopped":
                record.stopped_at = now()
                await self._set_state(entry, "stopped")
        for orphan in self._engine.stored() - set(self._entries):
            self._engine.discard(orphan)
        self._empty_trash()

    async def create(self, record: Record) -> Record:
        """Start a new sandbox; raises the 409 for a taken name, 503 when the engine cannot, 507 when the disk is full."""
        if record.name in self._names or record.name in self._entries:
            raise ApiError(409, f"Sandbox with name {record.name} already exists")
        entry = Entry(record)
        self._entries[record.id] = entry
        self._names[record.name] = record.id
        try:
            self._save(record)
            await self._engine.make(record.id)
            await self._run(entry)
        except BaseException as error:
            await self._remove(entry)
            raise as_api_error(error) from error
        await self._events.created(self.as_json(record))
        return record

    async def start(self, entry: Entry) -> Record:
        """A started sandbox stays as it is; raises the 400 or 409 when it cannot be started now."""
        if entry.record.state == "started":
            return entry.record
        self._refuse_transition(entry)
        if entry.record.state != "stopped":
            raise ApiError(400, f"Sandbox is not in valid state: {entry.record.state}")
        await self._set_state(entry, "starting")
        try:
            await self._run(entry)
        except BaseException as error:
            await self._set_state(entry, "stopped")
            raise as_api_error(error) from error
        return entry.record

    async def _run(self, entry: Entry) -> None:
        record = entry.record
        box = await self._engine.start(record.id, name=hostname(record), resources=record.resources)
        entry.box = box
        entry.toolbox = Toolbox(box, env=record.env)
        entry.watcher = asyncio.create_task(self._watch(entry, box))
        record.last_activity_at = now()
        record.error_reason = None
        await self._set_state(entry, "started")

    async def _watch(self, entry: Entry, box: Box) -> None:
        """A sandbox whose agent ended by itself (code inside broke it) is stopped, as a container whose pid 1 ended."""
        await box.closed.wait()
        if entry.box is box and entry.record.state == "started":
            log.warning("sandbox %s ended by itself", entry.record.id)
            entry.record.error_reason = "the sandbox ended by itself"
            await self.stop(entry)

    async def stop(self, entry: Entry) -> Record:
        """Every process ends, files stay; an ephemeral sandbox is deleted. Raises the 400 or 409."""
        self._refuse_transition(entry)
        if entry.record.state != "started":
            raise ApiError(400, f"Sandbox is not in a stoppable state: {entry.record.state}")
        if entry.record.ephemeral:
            return await self.delete(entry)
        await self._set_state(entry, "stopping")
        await self._halt(entry)
        entry.record.stopped_at = now()
        await self._set_state(entry, "stopped")
        return entry.record

    async def delete(self, entry: Entry) -> Record:
        """Every process ends, sockets close, files go; raises the 409 while another change is under way."""
        self._refuse_transition(entry)
        await self._set_state(entry, "destroying")
        await self._remove(entry)
        return entry.record

    async def _remove(self, entry: Entry) -> None:
        record = entry.record
        try:
            await self._halt(entry)
        except Exception:
            log.exception("ending sandbox %s", record.id)
        self._engine.discard(record.id)
        self._store.forget(record.id)
        self._entries.pop(record.id, None)
        if self._names.get(record.name) == record.id:
            del self._names[record.name]
        self._empty_trash()
        old, record.state = record.state, "destroyed"
        await self._events.state_changed(self.as_json(record), old=old)

    async def _halt(self, entry: Entry) -> None:
        box, toolbox, entry.box, entry.toolbox = entry.box, entry.toolbox, None, None
        if toolbox is not None:
            await toolbox.close()
        if box is not None:
            await box.stop()

    def _empty_trash(self) -> None:
        task = asyncio.create_task(asyncio.to_thread(self._engine.empty_trash))
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

    async def _set_state(self, entry: Entry, state: str) -> None:
        old, entry.record.state = entry.record.state, state
        self._save(entry.record)
        await self._events.state_changed(self.as_json(entry.record), old=old)

    def _save(self, record: Record) -> None:
        record.updated_at = now()
        self._store.save(record.id, record.name, record.as_stored())

    @contextlib.asynccontextmanager
    async def toolbox(self, id_or_name: str) -> AsyncIterator[Toolbox]:
        """The toolbox of a started sandbox, marked active while it is used; raises the 404 or 400."""
        entry = self.find(id_or_name)
        if entry.toolbox is None:
            message = f"Sandbox {id_or_name} is {entry.record.state}: no IP address found. Is the Sandbox started?"
            raise ApiError(400, message)
        entry.in_flight += 1
        entry.record.last_activity_at = now()
        try:
            yield entry.toolbox
        finally:
            entry.in_flight -= 1
            entry.record.last_activity_at = now()

    async def close(self) -> None:
        """At the server's end: ephemeral sandboxes are deleted, the others stopped with their files."""
        for entry in self:
            with contextlib.suppress(ApiError):
                if entry.record.state == "started":
                    await self.stop(entry)
        await asyncio.gather(*self._background, return_exceptions=True)


def new_id() -> str:
    return str(uuid.uuid4())


def hostname(record: Record) -> str:
    """The id's first part: a name may hold what a host name may not."""
    return f"daytona-{record.id[:8]}"


def as_api_error(error: BaseException) -> BaseException:
    """Engine failures as answers; anything else stays what it is."""
    if isinstance(error, EngineUnavailable):
        return ApiError(503, f"local Daytona cannot start a sandbox: {error}. fix: {error.fix}")
    if isinstance(error, OSError):
        return ApiError(507, f"local Daytona could not store the sandbox: {error.strerror or error}")
    return error
