"""Ends sandboxes that use more memory or disk than their size, and keeps the host's last reserve.

Memory only where no control group limits it. It looks now and then, so a sandbox can be over its
size for a moment: what it took by then is freed with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .box import Box
from .limits import (
    FREE_DISK_FLOOR,
    FREE_MEMORY_FLOOR,
    GIB,
    INSIDE_CLEANUP,
    SOCKET_BUFFERS,
    mebibytes,
)
from .rootfs import SandboxFolders
from .usage import (
    Held,
    Unmeasurable,
    all_processes,
    families,
    free_disk,
    free_memory,
    held_by,
    memory_of,
    small_files,
    tree_size,
)

log = logging.getLogger(__name__)
MEMORY_EVERY_S = 0.5
DISK_EVERY_S = 2.0
DISK_SHARE = 20  # a tree that takes a second to measure is measured every 20 s at most
Verdict = tuple[Box, str]  # a sandbox that must end, and why
WORTH_ENDING = 64 * 1024**2  # the floor ends nothing smaller


@dataclass(eq=False)
class Watched:
    """A running sandbox and what was last seen of it, in bytes.

    `stored` counts its volumes too; `before` is what `stored` was at the look before.
    """

    box: Box
    disk_at_start: int
    volumes: Sequence[Path]
    stored: int
    before: int
    memory: int = 0
    held: Held = field(default_factory=Held)
    disk_due: float = 0.0

    @property
    def disk_allowed(self) -> int:
        """Its size, or a little more than it had at its start, so that files can be deleted."""
        return max(self.box.resources.disk * GIB, self.disk_at_start + INSIDE_CLEANUP)


Look = Callable[[Sequence[Watched]], list[Verdict]]


class Watchdog:
    """All running sandboxes of one server; `memory` is False where control groups limit it."""

    def __init__(self, state: Path, *, memory: bool) -> None:
        self._state = state
        self._memory = memory
        # Its own: it must look also when all other threads are busy.
        self._threads = ThreadPoolExecutor(2, "watchdog")
        self._watched: set[Watched] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, box: Box, *, stored: int, volumes: Sequence[Path], in_volumes: int) -> None:
        """Look after a sandbox until it ends.

        `stored` and `in_volumes` are what was measured before it started.
        """
        at_start = stored + in_volumes
        self._watched.add(Watched(box, stored, volumes, at_start, at_start))
        if not self._tasks:
            rounds = [self._rounds(self._look_at_disk, DISK_EVERY_S)]
            if self._memory:
                rounds.append(self._rounds(look_at_memory, MEMORY_EVERY_S))
            self._tasks = {asyncio.create_task(each) for each in rounds}

    def _running(self) -> list[Watched]:
        self._watched = {one for one in self._watched if one.box.is_running}
        if not self._watched:
            self._tasks = set()  # the rounds end with the last sandbox, and begin with the next
        return list(self._watched)

    async def _rounds(self, look: Look, every_s: float) -> None:
        mine, loop = asyncio.current_task(), asyncio.get_running_loop()
        while mine in self._tasks:
            await asyncio.sleep(every_s)
            running = self._running()
            try:
                for box, reason in await loop.run_in_executor(self._threads, look, running):
                    log.warning("sandbox %s is ended: %s", box.sandbox_id, reason)
                    box.end(reason)
            except Exception:  # whatever it was: without the next look there would be no limits
                log.exception("the watchdog could not look")

    def _look_at_disk(self, watched: Sequence[Watched]) -> list[Verdict]:
        return look_at_disk(watched, self._state)


def look_at_memory(watched: Sequence[Watched]) -> list[Verdict]:
    """Who must end for its memory."""
    processes = all_processes()
    of_box = families(processes, [one.box.pid for one in watched])
    for one in watched:
        pids, small = of_box[one.box.pid], small_files(one.box.pid)
        one.memory = sum(processes[pid].at_most for pid in pids) + one.held.memory + small
        if is_over_memory(one):  # shared pages were counted for each who shares them
            one.memory = memory_of(pids, processes, one.held.memory) + small
    over = [one for one in watched if is_over_memory(one)]
    if over:
        return [(one.box, too_much("memory", one.memory, one.box.resources.memory)) for one in over]
    if free_memory() < FREE_MEMORY_FLOOR:
        return taker(watched, "memory", lambda one: one.memory + one.held.sockets * SOCKET_BUFFERS)
    return []


def is_over_memory(one: Watched) -> bool:
    return one.memory > one.box.resources.memory * GIB


def look_at_disk(watched: Sequence[Watched], state: Path) -> list[Verdict]:
    """Who must end for its files; also counts nameless files, which the memory round cannot see."""
    processes = all_processes()
    of_box = families(processes, [one.box.pid for one in watched])
    verdicts, low = [], free_disk(state) < FREE_DISK_FLOOR
    for one in watched:
        is_due = low or time.monotonic() >= one.disk_due
        reason = files_reason(one, of_box[one.box.pid], stored=is_due)
        if reason is not None:
            verdicts.append((one.box, reason))
    if low and not verdicts:
        return taker(watched, "disk", lambda one: one.stored - one.before)
    return verdicts


def files_reason(one: Watched, pids: Sequence[int], *, stored: bool) -> str | None:
    """Why a sandbox must end for what it holds open or, with `stored`, has on disk; else None."""
    try:
        one.held = held_by(pids)
        return disk_reason(one) if stored else None
    except Unmeasurable as error:
        return f"the sandbox {error}"
    except OSError:  # it is being deleted at this moment
        return None


def disk_reason(one: Watched) -> str | None:
    """Raises Unmeasurable, OSError."""
    moment = time.monotonic()
    disk = tree_size(one.box.folders.base) + one.held.disk + stored_bytes(one.box.folders.logs)
    one.before, one.stored = one.stored, disk + volumes_size(one.volumes)
    took = time.monotonic() - moment
    one.disk_due = moment + took + max(DISK_EVERY_S, took * DISK_SHARE)
    return too_much("disk", disk, one.box.resources.disk) if disk > one.disk_allowed else None


def measured(folders: SandboxFolders, volumes: Sequence[Path]) -> tuple[int, int]:
    """What a sandbox's files and logs, and its volumes, take before it starts."""
    return stored_bytes(folders.base) + stored_bytes(folders.logs), volumes_size(volumes)


def volumes_size(volumes: Sequence[Path]) -> int:
    """They have no size of their own: this only tells who fills the host's disk."""
    return sum(stored_bytes(volume) for volume in volumes)


def stored_bytes(folder: Path) -> int:
    """What a sandbox's files take before it starts; 0 for what cannot be measured.

    The first look after the start measures again, and ends it for that.
    """
    try:
        return tree_size(folder)
    except (Unmeasurable, OSError):
        return 0


def too_much(what: str, used: int, size: int) -> str:
    return f"the sandbox used {mebibytes(used)} of {what}, its size is {size} GiB"


def taker(watched: Sequence[Watched], what: str, amount: Callable[[Watched], int]) -> list[Verdict]:
    """The host runs out: the sandbox that took the most, if it took anything worth the while."""
    most = max(watched, key=amount, default=None)
    if most is None or amount(most) < WORTH_ENDING:
        return []
    taken = mebibytes(amount(most))
    return [(most.box, f"this machine ran out of {what}, and the sandbox had taken {taken}")]
