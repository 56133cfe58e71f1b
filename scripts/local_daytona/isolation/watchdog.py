"""Ends sandboxes that use more memory or disk than their size, and keeps the host's last reserve.

Memory only where no control group limits it. It looks now and then, so a sandbox can be over its
size for a moment: what it took by then is freed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Unmeasurable, Unreadable
from .limits import (
    FEW_BYTES,
    FREE_DISK_FLOOR,
    FREE_FILES_FLOOR,
    FREE_MEMORY_FLOOR,
    GIB,
    HUGE_PIPE_BUFFERS,
    INSIDE_CLEANUP,
    MAP_SIZE,
    MIB,
    mebibytes,
)
from .rootfs import SandboxFolders
from .running_sandbox import RunningSandbox
from .usage import (
    SOCKET_BUFFERS,
    TOGETHER,
    WORDS,
    Held,
    Tree,
    all_processes,
    check_filters,
    families,
    free_disk,
    free_files,
    free_memory,
    held_by,
    maps_of,
    memory_of,
    small_files,
    tree_of,
    tree_size,
)

log = logging.getLogger(__name__)
MEMORY_EVERY_S = 0.5
DISK_EVERY_S = 2.0
DISK_SHARE = 20  # a tree that takes a second to measure is measured every 20 s at most
Verdict = tuple[RunningSandbox, str]  # a sandbox that must end, and why


@dataclass(frozen=True)
class Unit:
    """How an amount is said, and below which the floor ends nothing."""

    worth_ending: int
    shown: Callable[[int], str]


BYTES, FILES = Unit(64 * MIB, mebibytes), Unit(10_000, "{:,} files".format)


@dataclass(eq=False)
class Watched:
    """A running sandbox and what was last seen of it, in bytes.

    `stored` counts its volumes too; `before` is what `stored` was at the look before, as
    `files_before` of its number of `files`. `kernel` is what the kernel keeps for it.
    """

    sandbox: RunningSandbox
    disk_at_start: int
    volumes: Sequence[Path]
    stored: int
    before: int
    files: int = 0
    files_before: int = 0
    memory: int = 0
    held: Held = field(default_factory=Held)
    kernel: int = 0
    disk_due: float = 0.0

    @property
    def disk_allowed(self) -> int:
        """Its size, or a little more than it had at its start, so that files can be deleted."""
        return max(self.sandbox.resources.disk * GIB, self.disk_at_start + INSIDE_CLEANUP)


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

    def watch(
        self, sandbox: RunningSandbox, *, stored: int, volumes: Sequence[Path], in_volumes: int
    ) -> None:
        """Look after a sandbox until it ends.

        `stored` and `in_volumes` are what was measured before it started.
        """
        at_start = stored + in_volumes
        self._watched.add(Watched(sandbox, stored, volumes, at_start, at_start))
        if not self._tasks:
            rounds = [self._rounds(self._look_at_disk, DISK_EVERY_S)]
            if self._memory:
                rounds.append(self._rounds(look_at_memory, MEMORY_EVERY_S))
            self._tasks = {asyncio.create_task(each) for each in rounds}

    def _running(self) -> list[Watched]:
        self._watched = {one for one in self._watched if one.sandbox.is_running}
        if not self._watched:
            self._tasks = set()  # the rounds end with the last sandbox, and begin with the next
        return list(self._watched)

    async def _rounds(self, look: Look, every_s: float) -> None:
        mine, loop = asyncio.current_task(), asyncio.get_running_loop()
        while mine in self._tasks:
            await asyncio.sleep(every_s)
            running = self._running()
            try:
                for sandbox, reason in await loop.run_in_executor(self._threads, look, running):
                    log.warning("sandbox %s is ended: %s", sandbox.sandbox_id, reason)
                    sandbox.end(reason)
            except Exception:  # whatever it was: without the next look there would be no limits
                log.exception("the watchdog could not look")

    def _look_at_disk(self, watched: Sequence[Watched]) -> list[Verdict]:
        return look_at_disk(watched, self._state)


def look_at_memory(watched: Sequence[Watched]) -> list[Verdict]:
    """Who must end for its memory."""
    processes = all_processes()
    of_sandbox = families(processes, [one.sandbox.pid for one in watched])
    for one in watched:
        pids, small = of_sandbox[one.sandbox.pid], small_files(one.sandbox.pid) + one.kernel
        one.memory = sum(processes[pid].at_most for pid in pids) + one.held.memory + small
        if is_over_memory(one):  # shared pages were counted for each who shares them
            one.memory = memory_of(pids, processes, one.held.memory) + small
    over = [one for one in watched if is_over_memory(one)]
    if over:
        return [
            (one.sandbox, too_much("memory", one.memory, one.sandbox.resources.memory))
            for one in over
        ]
    if free_memory() < FREE_MEMORY_FLOOR:
        return largest_consumer(watched, "memory", at_most)
    return []


def at_most(one: Watched) -> int:
    """The memory of a sandbox with all that its sockets and pipes might keep."""
    return one.memory + one.held.sockets * SOCKET_BUFFERS + one.held.pipes * HUGE_PIPE_BUFFERS


def is_over_memory(one: Watched) -> bool:
    return one.memory > one.sandbox.resources.memory * GIB


def look_at_disk(watched: Sequence[Watched], state: Path) -> list[Verdict]:
    """Who must end for its files; also counts nameless files, which the memory round cannot see."""
    processes = all_processes()
    of_sandbox = families(processes, [one.sandbox.pid for one in watched])
    few_files = free_files(state) < FREE_FILES_FLOOR
    verdicts, low = [], few_files or free_disk(state) < FREE_DISK_FLOOR
    for one in watched:
        is_due = low or time.monotonic() >= one.disk_due
        reason = files_reason(one, of_sandbox[one.sandbox.pid], stored=is_due)
        if reason is not None:
            verdicts.append((one.sandbox, reason))
    if few_files and not verdicts:
        return largest_consumer(watched, "files", lambda one: one.files - one.files_before, FILES)
    if low and not verdicts:
        return largest_consumer(watched, "disk", lambda one: one.stored - one.before)
    return verdicts or too_much_together(watched)


def too_much_together(watched: Sequence[Watched]) -> list[Verdict]:
    """A crowd, each below its limit, takes the machine's tables: those with the most of one end.

    As many as it takes, at once: what is missing there is missing for everybody.
    """
    verdicts = []
    for kind, most in TOGETHER.items():
        counts = {one: count_of(one, kind) for one in watched}
        crowd, together = sorted(watched, key=counts.__getitem__), sum(counts.values())
        while together > most:
            largest = crowd.pop()
            together -= counts[largest]
            verdicts.append((largest.sandbox, crowd_reason(largest, kind)))
    return verdicts


def count_of(one: Watched, kind: str) -> int:
    return one.held.counts.get(kind, 0)


def crowd_reason(one: Watched, kind: str) -> str:
    return (
        f"all sandboxes together have more than {TOGETHER[kind]:,} {WORDS[kind]},"
        f" and this one the most: {count_of(one, kind):,}"
    )


def files_reason(one: Watched, pids: Sequence[int], *, stored: bool) -> str | None:
    """Why a sandbox must end for what it holds open or, with `stored`, has on disk; else None."""
    try:
        check_filters(pids)
        one.held = held_by(pids)
        if not stored:
            return None
        one.kernel = one.held.kernel + maps_of(pids) * MAP_SIZE + waiting(one)
        return disk_reason(one)
    except Unmeasurable as error:
        return f"the sandbox {error}"
    except OSError:  # it is being deleted at this moment
        return None


def disk_reason(one: Watched) -> str | None:
    """Raises Unmeasurable, OSError."""
    moment = time.monotonic()
    tree = tree_of_sandbox(one.sandbox)
    one.files_before, one.files = one.files or tree.entries, tree.entries
    disk = tree.bytes + one.held.disk + stored_bytes(one.sandbox.folders.logs)
    one.before, one.stored = one.stored, disk + volumes_size(one.volumes)
    took = time.monotonic() - moment
    one.disk_due = moment + took + max(DISK_EVERY_S, took * DISK_SHARE)
    return too_much("disk", disk, one.sandbox.resources.disk) if disk > one.disk_allowed else None


def tree_of_sandbox(sandbox: RunningSandbox) -> Tree:
    """What code inside wrote, without what overlayfs needs beside it; raises Unmeasurable."""
    parts = [part_of_sandbox(sandbox, part) for part in sandbox.folders.parts if part.exists()]
    return Tree(sum(part.bytes for part in parts), sum(part.entries for part in parts))


def part_of_sandbox(sandbox: RunningSandbox, part: Path) -> Tree:
    """Raises Unmeasurable, OSError."""
    try:
        return tree_of(part)
    except Unreadable as closed:
        try:
            return sandbox.measure(part)
        except OSError as error:
            said = f"{closed}: {error.strerror or error}"
            raise Unmeasurable(said) from None


def waiting(one: Watched) -> int:
    """Bytes in its sockets; 0 for few sockets, and where this host does not say."""
    if one.held.sockets * SOCKET_BUFFERS < FEW_BYTES:
        return 0
    with contextlib.suppress(OSError):
        return one.sandbox.buffers()
    return 0


def measured(folders: SandboxFolders, volumes: Sequence[Path]) -> tuple[int | None, int]:
    """What a sandbox's files and logs, and its volumes, take before it starts.

    None for files in folders that it closed to this user: `measured_inside` can tell, once it runs.
    """
    in_volumes = volumes_size(volumes)
    try:
        parts = [tree_size(part) for part in folders.parts if part.exists()]
    except Unreadable:
        return None, in_volumes
    except (Unmeasurable, OSError):  # the first look after the start ends it for that
        return 0, in_volumes
    return sum(parts) + stored_bytes(folders.logs), in_volumes


def measured_inside(sandbox: RunningSandbox) -> int:
    """The first number of `measured`, of a sandbox in which nothing runs yet."""
    try:
        return tree_of_sandbox(sandbox).bytes + stored_bytes(sandbox.folders.logs)
    except (Unmeasurable, OSError):
        return 0


def volumes_size(volumes: Sequence[Path]) -> int:
    """They have no size of their own: this only tells who fills the host's disk."""
    return sum(stored_bytes(volume) for volume in volumes)


def stored_bytes(folder: Path) -> int:
    """What files take that are not a sandbox's own; 0 for what cannot be measured."""
    try:
        return tree_size(folder)
    except (Unmeasurable, OSError):
        return 0


def too_much(what: str, used: int, size: int) -> str:
    return f"the sandbox used {mebibytes(used)} of {what}, its size is {size} GiB"


def largest_consumer(
    watched: Sequence[Watched],
    what: str,
    amount: Callable[[Watched], int],
    unit: Unit = BYTES,
) -> list[Verdict]:
    """The host runs out: the sandbox that took the most, if it took anything worth the while."""
    most = max(watched, key=amount, default=None)
    if most is None or amount(most) < unit.worth_ending:
        return []
    taken = unit.shown(amount(most))
    return [(most.sandbox, f"this machine ran out of {what}, and the sandbox had taken {taken}")]
