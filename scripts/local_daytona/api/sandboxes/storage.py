"""The folders of sandboxes: made, discarded at once, and freed in the background."""

from __future__ import annotations

import asyncio

from ...engine import Engine
from ...isolation.copying import Budget
from ...isolation.limits import GIB
from ..snapshots.service import LARGEST, Snapshot
from .records import Record

LARGEST_COPY = LARGEST.disk * GIB


class Storage:
    """Of all sandboxes of one server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._freeing: set[asyncio.Task[None]] = set()

    async def make(self, record: Record, base: Snapshot) -> None:
        """The sandbox's folders: new ones, or a copy of the snapshot's; raises OSError."""
        if base.general:
            await self._engine.make(record.id)
        else:
            await self._engine.make_from(record.id, base.id, Budget(bytes=LARGEST_COPY))

    async def save(self, record: Record, snapshot: Snapshot) -> None:
        """Copy its files to the new `snapshot`, and set its size; raises OSError, CopyStopped."""
        budget = Budget(bytes=LARGEST_COPY)
        await self._engine.save(record.id, snapshot.id, budget)
        snapshot.size = round(budget.copied / GIB, 3)

    def become_snapshot(self, sandbox_id: str, snapshot_id: str) -> None:
        self._engine.become_snapshot(sandbox_id, snapshot_id)

    def discard(self, sandbox_id: str) -> None:
        self._engine.discard(sandbox_id)

    def discard_orphans(self, known: set[str]) -> None:
        """After a start: what no record names."""
        for orphan in self._engine.stored() - known:
            self._engine.discard(orphan)

    def empty_trash(self) -> None:
        """Free the disk of what was discarded, in the background."""
        task = asyncio.create_task(self.empty_trash_now())
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    async def empty_trash_now(self) -> None:
        await self._engine.empty_trash()

    async def close(self) -> None:
        await asyncio.gather(*self._freeing, return_exceptions=True)
