"""The state machine of sandboxes: the only place where a state changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable
from typing import Any

from ...egress.policy import Rules
from ...errors import ApiError, now
from ...isolation.limits import Resources
from ...isolation.running_sandbox import RunningSandbox
from ..engine_failures import as_api_error
from ..events import Events
from ..snapshots.service import Snapshot
from .records import Record
from .register import ManagedSandbox, Register
from .runtime import Runtime
from .storage import Storage

log = logging.getLogger(__name__)
BUILDING = ("pending_build", "building_snapshot")
IN_TRANSITION = ("creating", "starting", "stopping", "destroying", "snapshotting", *BUILDING)
# Need not be stored: the next server takes whatever ran before for stopped.
ENDING = ("stopping", "stopped", "destroying", "error")
# No event tells these: whoever waits would show the reason of its last poll, which is none
# (PROTOCOL.md, "Builds and their logs").
WITH_A_REASON = ("build_failed", "error")
AT_REST = ("stopped", "archived", "build_failed", "error")  # nothing of it runs
CANCELLED: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()


class Sandboxes:
    """Create, start, stop, copy and delete sandboxes.

    `apply_rules` puts network rules in force; `on_removed` is told each id that is gone.
    """

    def __init__(
        self,
        register: Register,
        runtime: Runtime,
        storage: Storage,
        events: Events,
        *,
        apply_rules: Callable[[str, Rules], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._register = register
        self._runtime = runtime
        self._storage = storage
        self._events = events
        self._apply_rules = apply_rules
        self._on_removed = on_removed

    async def recover(self) -> None:
        """After a start: what ran is stopped with its files, what was ephemeral or due is gone."""
        self._register.load()
        for managed in self._register:
            record = managed.record
            expires = record.expires_at(self._register.minute)
            unfinished = record.state in ("creating", "destroying")
            if record.ephemeral or unfinished or (expires is not None and expires <= now()):
                await self._remove(managed)
            elif record.state in BUILDING:
                await self.fail_build(managed, "local Daytona ended while it was built")
            elif record.state not in AT_REST:
                record.stopped_at = now()
                await self.set_state(managed, "stopped")
        self._storage.discard_orphans(self._register.ids())
        self._storage.empty_trash()

    async def create(self, record: Record, base: Snapshot) -> Record:
        """Start a new sandbox.

        Raises the 409 for a taken name, the 503 when the engine cannot, the 507 of a full disk.
        """
        managed = self._register.add(record)
        try:
            await self._storage.make(record, base)
            await self._run_first(managed)
        except BaseException as error:
            await self._remove(managed)
            raise as_api_error(error) from error
        await self._events.created(self._register.as_json(record))
        return record

    async def start(self, managed: ManagedSandbox) -> Record:
        """A started sandbox stays as it is; raises the 400 or 409 when it cannot be started now."""
        if managed.record.state == "started":
            return managed.record
        self._refuse_transition(managed)
        if managed.record.state not in ("stopped", "archived"):
            raise ApiError(400, f"Sandbox is not in valid state: {managed.record.state}")
        before = managed.record.state
        await self.set_state(managed, "starting")
        try:
            await self._run(managed)
        except BaseException as error:
            await self._runtime.halt(managed)
            managed.record.state = before
            await self.set_state(managed, before)
            raise as_api_error(error) from error
        return managed.record

    async def recover_from_error(self, managed: ManagedSandbox) -> Record:
        """Start what ended in `error`; raises the 400 for anything else."""
        state = managed.record.state
        if not managed.record.recoverable:
            raise ApiError(400, f"Sandbox is not in a recoverable error state: {state}")
        managed.record.state = "stopped"
        return await self.start(managed)

    async def _run(self, managed: ManagedSandbox) -> None:
        await self._boot(managed)
        await self._begin(managed)

    async def _run_first(self, managed: ManagedSandbox) -> None:
        await self._boot(managed)
        await self._runtime.link_volumes(managed)
        await self._begin(managed)

    async def _boot(self, managed: ManagedSandbox) -> None:
        running = await self._runtime.boot(managed)
        managed.watcher = asyncio.create_task(self._watch(managed, running))

    async def _begin(self, managed: ManagedSandbox) -> None:
        if managed.record.entrypoint and managed.toolbox is not None:
            await managed.toolbox.sessions.run_entrypoint(managed.record.entrypoint)
        await self.set_state(managed, "started")

    async def _watch(self, managed: ManagedSandbox, running: RunningSandbox) -> None:
        """Stop a sandbox whose agent ended by itself, as a container whose pid 1 ended.

        One that the server ended for what it used ends in `error`.
        """
        await running.closed.wait()
        if managed.running is not running or managed.record.state != "started":
            return
        managed.record.error_reason = running.ended_because or "the sandbox ended by itself"
        log.warning("sandbox %s is over: %s", managed.record.id, managed.record.error_reason)
        if running.ended_because is None:
            await self.stop(managed)
        else:
            await self._fail(managed)

    async def _fail(self, managed: ManagedSandbox) -> None:
        """End what used too much in `error`; its files stay, and `recover` starts it again.

        An ephemeral one is deleted a minute later (timers), so that its client can ask why.
        """
        await self.set_state(managed, "stopping")
        await self._runtime.halt(managed)
        managed.record.stopped_at = now()
        await self.set_state(managed, "error")

    async def stop(self, managed: ManagedSandbox) -> Record:
        """End every process, keep files; delete an ephemeral sandbox. Raises the 400 or 409."""
        self._refuse_transition(managed)
        if managed.record.state != "started":
            raise ApiError(400, f"Sandbox is not in a stoppable state: {managed.record.state}")
        if managed.record.ephemeral:
            return await self.delete(managed)
        await self.set_state(managed, "stopping")
        await self._runtime.halt(managed)
        managed.record.stopped_at = now()
        await self.set_state(managed, "stopped")
        return managed.record

    async def archive(self, managed: ManagedSandbox) -> Record:
        """Put a stopped sandbox in Daytona's cheaper state, from which it starts again.

        Here its files stay where they are.
        """
        self._refuse_transition(managed)
        state = managed.record.state
        if state != "stopped" or managed.record.ephemeral:
            message = f"Sandbox is not stopped, or ephemeral, and cannot be archived: {state}"
            raise ApiError(400, message)
        await self.set_state(managed, "archived")
        return managed.record

    async def resize(self, managed: ManagedSandbox, size: Resources) -> Record:
        """More of everything while it is stopped, more cpu and memory while it runs.

        Raises the 400 for what Daytona refuses.
        """
        self._refuse_transition(managed)
        record, old = managed.record, managed.record.resources
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
        self._register.save(record)
        if managed.running is not None:
            await managed.running.resize(size)
        return record

    async def save_as(self, managed: ManagedSandbox, snapshot: Snapshot) -> None:
        """Copy a sandbox's files to the new `snapshot`, also while it runs.

        Raises the 400, 409, 503 or 507.
        """
        self._refuse_transition(managed)
        old = managed.record.state
        if old not in ("started", "stopped"):
            message = f"Sandbox must be started or stopped to make a snapshot of it: {old}"
            raise ApiError(400, message)
        await self.set_state(managed, "snapshotting")
        managed.copying = asyncio.create_task(self._storage.save(managed.record, snapshot))
        try:
            await asyncio.wait({managed.copying})
            managed.copying.result()
        except BaseException as error:
            raise as_api_error(error) from error
        finally:
            managed.copying = None
            await self._return_to(managed, old)

    async def _return_to(self, managed: ManagedSandbox, state: str) -> None:
        """Set the state before; a sandbox that ended meanwhile, by whatever, is stopped."""
        if state == "started" and (managed.running is None or managed.running.closed.is_set()):
            await self._runtime.halt(managed)
            managed.record.stopped_at = now()
            state = "stopped"
        managed.record.last_activity_at = now()
        await self.set_state(managed, state)

    async def run_built(self, managed: ManagedSandbox) -> None:
        """Start what was built; raises EngineUnavailable, OSError or the 400 for a volume."""
        await self._runtime.halt(managed)
        await self._run_first(managed)

    async def fail_build(self, managed: ManagedSandbox, reason: str) -> None:
        """The build's end that is no sandbox: its record stays and says why."""
        await self._runtime.halt(managed)
        self._storage.discard(managed.record.id)
        self._storage.empty_trash()
        managed.record.error_reason = reason
        await self.set_state(managed, "build_failed")

    async def delete(self, managed: ManagedSandbox) -> Record:
        """Every process ends, sockets close, files go; raises the 409 during another change."""
        await ended(managed.build)
        self._refuse_transition(managed)
        await self.set_state(managed, "destroying")
        await self._remove(managed)
        return managed.record

    async def _remove(self, managed: ManagedSandbox) -> None:
        record = managed.record
        try:
            await self._runtime.halt(managed)
        except Exception:
            log.exception("ending sandbox %s", record.id)
        self._storage.discard(record.id)
        await self._forget(record)
        self._on_removed(record.id)
        self._register.drop(record)
        self._storage.empty_trash()
        old, record.state = record.state, "destroyed"
        await self._events.state_changed(self._register.as_json(record), old=old)

    async def _forget(self, record: Record) -> None:
        """Take it off the database, which may need the room of what was just discarded.

        Raises the 507 of a disk that is full all the same; the sandbox can be deleted again.
        """
        try:
            self._register.forget(record)
        except ApiError:
            await self._storage.empty_trash_now()
            record.state = "error"  # not in transition, so that it can be deleted again
            self._register.forget(record)

    def _refuse_transition(self, managed: ManagedSandbox) -> None:
        if managed.record.state in IN_TRANSITION:
            raise ApiError(409, "Sandbox state change in progress")

    async def set_network(self, managed: ManagedSandbox, **values: Any) -> Record:
        """New network settings, in force when this returns.

        Raises the 409 while the sandbox starts or ends.
        """
        self._refuse_transition(managed)
        record = managed.record
        for name, value in values.items():
            setattr(record, name, value)
        # First: a full disk must not leave a network open.
        self._apply_rules(record.id, record.rules)
        self._register.save(record)
        return record

    async def set_state(self, managed: ManagedSandbox, state: str) -> None:
        """Store the state and tell clients.

        Raises the 507 of a full disk, and then it is in its old state; only what ends a sandbox
        goes on, and makes room.
        """
        record = managed.record
        old, record.state = record.state, state
        try:
            self._register.save(record)
        except ApiError as error:
            if state not in ENDING:
                record.state = old
                raise
            words = "sandbox %s is %s, which could not be stored: %s"
            log.warning(words, record.id, state, error.message)
        if state not in WITH_A_REASON:
            await self._events.state_changed(self._register.as_json(record), old=old)

    async def close(self) -> None:
        """At the server's end: delete ephemeral sandboxes, stop the others with their files."""
        for managed in self._register:
            await ended(managed.build)
            await ended(managed.copying)
        for managed in self._register:
            if (
                managed.record.state == "snapshotting"
            ):  # whoever asked for it is answered after this
                managed.record.state = "started" if managed.running is not None else "stopped"
            with contextlib.suppress(ApiError):
                if managed.record.state == "started":
                    await self.stop(managed)
        await self._storage.close()


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
