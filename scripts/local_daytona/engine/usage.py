"""What sandboxes use, measured from outside: nothing here asks the sandbox, and nothing here follows a path that it could bend."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .limits import DEEPEST_FOLDER, MOST_FILES

PAGE = os.sysconf("SC_PAGE_SIZE")
MOST_DESCRIPTORS = 20_000  # of one sandbox, looked at in one round
BLOCK = 512  # the unit of st_blocks


@dataclass(frozen=True)
class Process:
    """A process of this host: its parent and its resident bytes."""

    parent: int
    resident: int


def all_processes() -> dict[int, Process]:
    """Every process that /proc shows, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                found[int(name)] = Process(int(fields[1]), int(fields[21]) * PAGE)
    return found


def families(processes: Mapping[int, Process], roots: Iterable[int]) -> dict[int, list[int]]:
    """The pids below each root, itself included: nothing can leave a pid namespace, orphans become its pid 1's."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, process in processes.items():
        children[process.parent].append(pid)
    found = {}
    for root in roots:
        family = [root] if root in processes else []
        for pid in family:
            family += children[pid]
        found[root] = family
    return found


def memory_of(pids: Iterable[int], processes: Mapping[int, Process], in_files: int) -> int:
    """Bytes that these processes keep from others; shared pages count once, `in_files` is what memory files of theirs hold."""
    private, shared = 0, 0
    for pid in pids:
        try:
            parts = rollup(pid)
        except OSError:  # it hides from us, or has ended
            private += processes[pid].resident
        else:
            private += parts["Pss_Anon"] + parts["SwapPss"]
            shared += parts["Pss_Shmem"]
    return private + max(shared, in_files)


def rollup(pid: int) -> dict[str, int]:
    parts: dict[str, int] = defaultdict(int)
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB":
                parts[name] = int(words[0]) * 1024
    return parts


@dataclass(frozen=True)
class Held:
    """Bytes in open files that have no name any more: on disk, and in memory (memfd)."""

    disk: int = 0
    memory: int = 0


def held_by(pids: Iterable[int]) -> Held:
    """Nameless files that these processes hold open."""
    disk: dict[tuple[int, int], int] = {}
    memory: dict[tuple[int, int], int] = {}
    left = MOST_DESCRIPTORS
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    break
                with contextlib.suppress(OSError):
                    status = os.stat(entry.path)
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                        kind = memory if os.readlink(entry.path).startswith("/memfd:") else disk
                        kind[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
    return Held(sum(disk.values()), sum(memory.values()))


class Unmeasurable(Exception):
    """A tree that is too deep or has too many entries; says which, as a sentence about the sandbox."""


def tree_size(top: Path) -> int:
    """Bytes that a tree takes on disk; links are not followed, hard links count once. Raises Unmeasurable, OSError."""
    walk = Walk()
    walk.run(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    return walk.bytes


class Walk:
    """One look at a tree that hostile code may be changing: descriptors and single names only."""

    def __init__(self) -> None:
        self.bytes = 0
        self.entries = 0
        self._linked: set[tuple[int, int]] = set()

    def run(self, top: int) -> None:
        """Depth first, one descriptor a level; closes `top`."""
        pending: list[tuple[int, list[str]]] = [(top, [])]
        try:
            pending[0][1].extend(self._look(top))
            while pending:
                folder, names = pending[-1]
                if not names:
                    os.close(pending.pop()[0])
                    continue
                child = self._enter(folder, names.pop())
                if child >= 0:
                    pending.append((child, []))
                    pending[-1][1].extend(self._look(child))
                if len(pending) > DEEPEST_FOLDER:
                    raise Unmeasurable(f"nests folders more than {DEEPEST_FOLDER} deep")
        finally:
            for folder, _ in pending:
                os.close(folder)

    @staticmethod
    def _enter(folder: int, name: str) -> int:
        """The folder's descriptor; -1 when it is gone, or closed to us (an ordinary user's own, made unreadable)."""
        try:
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError:
            return -1

    def _look(self, folder: int) -> list[str]:
        """Count what is in a folder; the names of the folders in it."""
        folders = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self.entries += 1
                if self.entries > MOST_FILES:
                    raise Unmeasurable(f"holds more than {MOST_FILES:,} files")
                with contextlib.suppress(OSError):
                    self._count(entry.stat(follow_symlinks=False))
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        return folders

    def _count(self, status: os.stat_result) -> None:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in self._linked:
                return
            self._linked.add(key)
        self.bytes += status.st_blocks * BLOCK


def free_memory() -> int:
    """Bytes that the host can still give without swapping."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise OSError("this kernel does not say how much memory is free")


def free_disk(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
