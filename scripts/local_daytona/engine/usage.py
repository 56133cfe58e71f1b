"""What sandboxes use, measured from outside.

Nothing here asks the sandbox, and nothing here follows a path that it could bend.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .limits import DEEPEST_FOLDER, MOST_DESCRIPTORS, MOST_FILES, MOST_IN_FLIGHT, MOST_TERMINALS

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 512  # the unit of st_blocks
TERMINAL_MASTER = (5, 2)  # device numbers of /dev/ptmx
SMALL_FILE = 1024  # bytes that the kernel keeps for a file of a tmpfs, also for an empty one
MEMORY_FOLDERS = ("dev/shm", "run")  # the tmpfs that code inside may write to


@dataclass(frozen=True)
class Process:
    """A process of this host: its parent, its resident bytes and its address space."""

    parent: int
    resident: int
    virtual: int = 0

    @property
    def at_most(self) -> int:
        """Resident bytes, and the most page tables it can have: 4 KiB for 2 MiB of addresses."""
        return self.resident + self.virtual // 512


def all_processes() -> dict[int, Process]:
    """Every process that /proc shows, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                found[int(name)] = Process(int(fields[1]), int(fields[21]) * PAGE, int(fields[20]))
    return found


def families(processes: Mapping[int, Process], roots: Iterable[int]) -> dict[int, list[int]]:
    """The pids below each root, itself included.

    Nothing can leave a pid namespace: orphans become its pid 1's.
    """
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
    """Bytes that these processes keep from others; shared pages count once.

    `in_files` is what memory files of theirs hold.
    """
    private, shared = 0, 0
    for pid in pids:
        try:
            parts = rollup(pid)
        except OSError:  # it hides from us, or has ended
            private += processes[pid].resident
        else:
            private += parts["Pss_Anon"] + parts["SwapPss"] + page_tables(pid)
            shared += parts["Pss_Shmem"]
    return private + max(shared, in_files)


def page_tables(pid: int) -> int:
    """Bytes of them: address space that was only read has gigabytes of tables, none resident."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmPTE:"):
                return int(line.split()[1]) * 1024
    return 0


def small_files(pid: int) -> int:
    """Bytes that the kernel keeps for files, however empty, in a sandbox's memory folders.

    `pid` is the sandbox's first process.
    """
    total = 0
    for folder in MEMORY_FOLDERS:
        with contextlib.suppress(OSError):
            status = os.statvfs(f"/proc/{pid}/root/{folder}")
            total += (status.f_files - status.f_ffree) * SMALL_FILE
    return total


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
    """What open descriptors keep: bytes in files without a name, and how many sockets there are."""

    disk: int = 0
    memory: int = 0  # memfd
    sockets: int = 0


class Unmeasurable(Exception):
    """More than can be looked through; the message goes on after "the sandbox"."""


def held_by(pids: Iterable[int]) -> Held:
    """What these processes hold open; raises Unmeasurable when it is more than a sandbox may."""
    disk: dict[tuple[int, int], int] = {}
    memory: dict[tuple[int, int], int] = {}
    sockets, terminals, in_flight = 0, 0, 0
    for path, status in descriptors_of(pids):
        if stat.S_ISSOCK(status.st_mode):
            sockets += 1
            in_flight += waiting_in(path)
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            kind = memory if is_memory_file(path) else disk
            kind[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
        elif is_terminal_master(status):
            terminals += 1
    if terminals > MOST_TERMINALS:
        raise Unmeasurable(f"has more than {MOST_TERMINALS:,} terminals")
    if in_flight > MOST_IN_FLIGHT:
        raise Unmeasurable(f"has more than {MOST_IN_FLIGHT:,} descriptors waiting in sockets")
    return Held(sum(disk.values()), sum(memory.values()), sockets)


def is_terminal_master(status: os.stat_result) -> bool:
    device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return stat.S_ISCHR(status.st_mode) and device == TERMINAL_MASTER


def waiting_in(path: str) -> int:
    """How many descriptors were sent to this socket and not received; 0 before Linux 5.11."""
    with contextlib.suppress(OSError), open(path.replace("/fd/", "/fdinfo/"), "rb") as file:
        for line in file:
            if line.startswith(b"scm_fds:"):
                return int(line.split()[1])
    return 0


def is_memory_file(path: str) -> bool:
    try:
        return os.readlink(path).startswith("/memfd:")
    except OSError:  # closed meanwhile
        return False


def descriptors_of(pids: Iterable[int]) -> Iterator[tuple[str, os.stat_result]]:
    """Every open descriptor, by its path in /proc.

    Raises Unmeasurable for too many, so that none can hide behind a crowd of others.
    """
    left = MOST_DESCRIPTORS
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    raise Unmeasurable(f"holds more than {MOST_DESCRIPTORS:,} files open")
                with contextlib.suppress(OSError):
                    yield entry.path, os.stat(entry.path)


def tree_size(top: Path) -> int:
    """Bytes that a tree takes on disk; links are not followed, hard links count once.

    Raises Unmeasurable, OSError.
    """
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
        """The folder's descriptor; -1 when it is gone, or made unreadable for an ordinary user."""
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
