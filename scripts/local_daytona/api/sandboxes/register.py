"""The sandboxes of this server by id and name; each change is on disk before it is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...errors import ApiError, now
from ...isolation.running_sandbox import RunningSandbox
from ...store import Store
from ...toolbox.toolbox import Toolbox
from . import records
from .records import Record

USABLE = ("started", "snapshotting")  # by its toolbox


@dataclass
class ManagedSandbox:
    """A record with what runs for it now.

    `in_flight` counts the toolbox requests that keep it active. `build` makes it, `copying` copies
    it to a snapshot: whoever ends the sandbox ends these first. `watcher` waits for its end.
    """

    record: Record
    running: RunningSandbox | None = None
    toolbox: Toolbox | None = None
    in_flight: int = 0
    build: asyncio.Task[None] | None = field(default=None, repr=False)
    copying: asyncio.Task[None] | None = field(default=None, repr=False)
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)


class Register:
    """Finds, keeps and shows them.

    `minute` is the length of a minute in seconds.
    """

    def __init__(self, store: Store, *, toolbox_url: str, minute: float) -> None:
        self._table = store.sandboxes
        self._toolbox_url = toolbox_url
        self.minute = minute
        self._entries: dict[str, ManagedSandbox] = {}
        self._names: dict[str, str] = {}

    def __iter__(self) -> Iterator[ManagedSandbox]:
        return iter(list(self._entries.values()))

    def find(self, id_or_name: str) -> ManagedSandbox:
        """By id or name; raises the 404."""
        managed = self._entries.get(self._names.get(id_or_name, id_or_name))
        if managed is None:
            raise ApiError(404, f"Sandbox with ID or name {id_or_name} not found")
        return managed

    def as_json(self, record: Record) -> dict[str, Any]:
        return records.sandbox(record, toolbox_url=self._toolbox_url, minute=self.minute)

    def as_list_item(self, record: Record) -> dict[str, Any]:
        return records.list_item(record, toolbox_url=self._toolbox_url, minute=self.minute)

    def load(self) -> None:
        """After a start: what is on disk."""
        for values in self._table:
            record = Record.from_stored(values)
            self._entries[record.id] = ManagedSandbox(record)
            self._names[record.name] = record.id

    def ids(self) -> set[str]:
        return set(self._entries)

    def add(self, record: Record) -> ManagedSandbox:
        """Take a new record in, on disk; raises the 409 for a taken name."""
        if record.name in self._names or record.name in self._entries:
            raise ApiError(409, f"Sandbox with name {record.name} already exists")
        self.save(record)
        managed = self._entries[record.id] = ManagedSandbox(record)
        self._names[record.name] = record.id
        return managed

    def save(self, record: Record) -> None:
        """Raises the 507 of a full disk."""
        record.updated_at = now()
        self._table.save(record.id, record.name, record.as_stored())

    async def change(self, managed: ManagedSandbox, **values: Any) -> Record:
        """Set plain fields of the record, on disk before it returns."""
        for name, value in values.items():
            setattr(managed.record, name, value)
        self.save(managed.record)
        return managed.record

    def forget(self, record: Record) -> None:
        """Off the disk; raises the 507 of a full one."""
        self._table.forget(record.id)

    def drop(self, record: Record) -> None:
        """Nobody finds it any more."""
        self._entries.pop(record.id, None)
        if self._names.get(record.name) == record.id:
            del self._names[record.name]

    def mounting(self, volume_id: str) -> bool:
        """Whether a sandbox, in whatever state, has this volume."""
        mounts = (mount for managed in self for mount in managed.record.volumes)
        return any(mount["volumeId"] == volume_id for mount in mounts)

    @contextlib.asynccontextmanager
    async def toolbox(self, id_or_name: str) -> AsyncIterator[Toolbox]:
        """The toolbox of a started sandbox, which is active meanwhile; raises the 404 or 400."""
        managed = self.find(id_or_name)
        if managed.toolbox is None or managed.record.state not in USABLE:
            reason = f" ({managed.record.error_reason})" if managed.record.state == "error" else ""
            state = f"Sandbox {id_or_name} is {managed.record.state}{reason}"
            raise ApiError(400, f"{state}: no IP address found. Is the Sandbox started?")
        managed.in_flight += 1
        managed.record.last_activity_at = now()
        try:
            yield managed.toolbox
        finally:
            managed.in_flight -= 1
            managed.record.last_activity_at = now()
