"""What time does to sandboxes: ttl, auto-stop, auto-archive, auto-delete; and to an idle server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ...errors import ApiError, now
from .records import Record
from .register import ManagedSandbox, Register
from .service import AT_REST, Sandboxes

log = logging.getLogger(__name__)
TICKS_PER_MINUTE = 60
IDLE_MINUTES = 10
LONGEST_AUTO_ARCHIVE_MIN = 30 * 24 * 60  # what 0 means to Daytona


async def run(
    register: Register,
    sandboxes: Sandboxes,
    *,
    last_request: Callable[[], float],
    exit_server: Callable[[], None],
) -> None:
    """Enforce every deadline, once a second, until the server has been idle long enough to exit."""
    idle_since = now()
    while True:
        await asyncio.sleep(register.minute / TICKS_PER_MINUTE)
        for managed in register:
            try:
                await enforce(sandboxes, managed, minute=register.minute)
            except Exception:
                log.exception("timer of sandbox %s", managed.record.id)
        if any(is_needed(managed.record) for managed in register):
            idle_since = now()
        if now() - max(idle_since, last_request()) > IDLE_MINUTES * register.minute:
            exit_server()
            return


async def enforce(sandboxes: Sandboxes, managed: ManagedSandbox, *, minute: float) -> None:
    """Do what is due for one sandbox.

    During another change (409) it is left for the next tick.
    """
    record, moment = managed.record, now()
    expires = record.expires_at(minute)
    with contextlib.suppress(ApiError):
        if expires is not None and moment >= expires:
            log.info("sandbox %s reached its ttl", record.id)
            await sandboxes.delete(managed)
        elif is_idle(managed, moment, minute):
            log.info("sandbox %s was idle", record.id)
            await sandboxes.stop(managed)
        elif is_left_stopped(record, moment, minute):
            await sandboxes.delete(managed)
        elif is_to_be_archived(record, moment, minute):
            await sandboxes.archive(managed)


def is_idle(managed: ManagedSandbox, moment: float, minute: float) -> bool:
    """Started, no toolbox request under way, and none for the auto-stop interval.

    Background processes do not count.
    """
    record = managed.record
    interval = record.auto_stop_interval * minute
    may_stop = record.state == "started" and interval > 0 and not managed.in_flight
    return may_stop and moment - record.last_activity_at >= interval


def is_left_stopped(record: Record, moment: float, minute: float) -> bool:
    interval = record.auto_delete_interval * minute
    may_go = record.state in ("stopped", "archived") and interval >= 0
    if record.state == "error" and record.ephemeral:
        may_go, interval = True, minute  # long enough for its client to ask why
    return may_go and moment - record.stopped_at >= interval


def is_to_be_archived(record: Record, moment: float, minute: float) -> bool:
    interval = (record.auto_archive_interval or LONGEST_AUTO_ARCHIVE_MIN) * minute
    may_be = record.state == "stopped" and not record.ephemeral
    return may_be and moment - record.stopped_at >= interval


def is_needed(record: Record) -> bool:
    """Whether the server must stay for this sandbox: it runs, or a timer of it is pending.

    Archiving can wait: it frees nothing here.
    """
    deletable = record.state in ("stopped", "archived") and record.auto_delete_interval >= 0
    deletable = deletable or (record.state == "error" and record.ephemeral)
    return record.state not in AT_REST or record.ttl_minutes > 0 or deletable
