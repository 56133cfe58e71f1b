"""What sandboxes use, measured from outside.

Nothing here asks the sandbox, and nothing here follows a path that it could bend.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Unmeasurable, Unreadable
from .limits import (
    DEEPEST_FOLDER,
    LOCK_SIZE,
    MOST_DESCRIPTORS,
    MOST_FILES,
    MOST_FILTERS,
    MOST_IN_FLIGHT,
    MOST_LOCKS,
    MOST_PIPES,
    MOST_TERMINALS,
    PIPE_BUFFERS,
    WATCH_SIZE,
)

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
    """What open descriptors keep: bytes in files without a name, and how many of a kind there are.

    `pipes` are counted once, however many processes share one. `counts` has those of `TOGETHER`.
    """

    disk: int = 0
    memory: int = 0  # memfd
    sockets: int = 0
    pipes: int = 0
    watches: int = 0  # of epoll
    locks: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def kernel(self) -> int:
        """Bytes that the kernel keeps for them beside what sockets have waiting."""
        return self.pipes * PIPE_BUFFERS + self.watches * WATCH_SIZE + self.locks * LOCK_SIZE


def held_by(pids: Iterable[int]) -> Held:
    """What these processes hold open; raises Unmeasurable when it is more than a sandbox may."""
    count = HeldCount(look_at_locks=has_many_locks())
    for path, status in descriptors_of(pids):
        count.add(path, status)
    return count.held()


class HeldCount:
    """Descriptors one after another; each raises Unmeasurable where one kind becomes too many."""

    def __init__(self, *, look_at_locks: bool) -> None:
        self._look_at_locks = look_at_locks
        self._files: dict[bool, dict[tuple[int, int], int]] = {False: {}, True: {}}
        self._pipes: set[tuple[int, int]] = set()
        self._found: Counter[str] = Counter()

    def add(self, path: str, status: os.stat_result) -> None:
        kind, key = stat.S_IFMT(status.st_mode), (status.st_dev, status.st_ino)
        self._found["files"] += 1
        if kind == stat.S_IFSOCK:
            self._count("sockets", 1)
            self._count("in flight", waiting_in(path))
        elif kind == stat.S_IFIFO:
            self._count("pipes", key not in self._pipes)
            self._pipes.add(key)
        elif kind == stat.S_IFREG:
            if status.st_nlink == 0:
                self._files[is_memory_file(path)][key] = status.st_blocks * BLOCK
            if self._look_at_locks:
                self._count("locks", lines_of(path, b"lock:", MOST_LOCKS))
        elif kind == 0:
            self._add_nameless(path)
        elif is_terminal_master(status):
            self._count("terminals", 1)

    def _add_nameless(self, path: str) -> None:
        kind = target_of(path)
        if kind == "anon_inode:[eventpoll]":
            self._count("watches", lines_of(path, b"tfd:", MOST["watches"][0]))
        elif kind == "anon_inode:inotify":
            self._count("inotify", 1)

    def _count(self, kind: str, number: int) -> None:
        self._found[kind] += number
        most, words = MOST.get(kind, (number, ""))
        if words and self._found[kind] > most:
            raise Unmeasurable(f"has more than {most:,} {words}")

    def held(self) -> Held:
        disk, memory = (sum(files.values()) for files in self._files.values())
        kinds = ("sockets", "pipes", "watches", "locks")
        counts = {kind: self._found[kind] for kind in TOGETHER}
        return Held(disk, memory, **{kind: self._found[kind] for kind in kinds}, counts=counts)


def limit_of_this_host(name: str, *, otherwise: int) -> int:
    """A number below /proc/sys."""
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return otherwise


# Bytes that may wait in one socket: the kernel doubles what a program asks for.
SOCKET_BUFFERS = 2 * limit_of_this_host("net/core/wmem_max", otherwise=208 * 1024)
# What one sandbox may have of what the kernel counts by user, or for the whole machine: a part, so
# that a crowd leaves something to the user's own programs.
MOST = {
    "terminals": (MOST_TERMINALS, "terminals"),
    "in flight": (MOST_IN_FLIGHT, "descriptors waiting in sockets"),
    "pipes": (MOST_PIPES, "pipes"),
    "locks": (MOST_LOCKS, "file locks"),
    "watches": (
        limit_of_this_host("fs/epoll/max_user_watches", otherwise=1_600_000) // 16,
        "descriptors watched by epoll",
    ),
    "inotify": (
        max(8, limit_of_this_host("fs/inotify/max_user_instances", otherwise=128) // 8),
        "inotify instances",
    ),
}

# What all sandboxes of a server may have of it together, however little each has: the rest is left
# to this machine's own programs.
TOGETHER = {
    "terminals": limit_of_this_host("kernel/pty/max", otherwise=4096) // 2,
    "in flight": MOST_IN_FLIGHT * 3 // 2,
    "watches": limit_of_this_host("fs/epoll/max_user_watches", otherwise=1_600_000) // 2,
    "inotify": limit_of_this_host("fs/inotify/max_user_instances", otherwise=128) // 2,
    "files": limit_of_this_host("fs/file-max", otherwise=800_000) // 2,
}
WORDS = {**{kind: words for kind, (_, words) in MOST.items()}, "files": "files open"}


def has_many_locks() -> bool:
    """Whether the machine has so many file locks that it is worth asking whose they are."""
    try:
        with open("/proc/locks", "rb") as locks:
            return len(locks.read(MOST_LOCKS * 10)) >= MOST_LOCKS * 10
    except OSError:
        return False


def lines_of(path: str, beginning: bytes, most: int) -> int:
    """How many lines of a descriptor's fdinfo begin so; one more than `most` for more."""
    found = 0
    with contextlib.suppress(OSError), open(path.replace("/fd/", "/fdinfo/"), "rb") as file:
        for line in file:
            found += line.startswith(beginning)
            if found > most:
                break
    return found


def check_filters(pids: Iterable[int]) -> None:
    """Raises Unmeasurable: all filters of all users share what the kernel has for their code."""
    for pid in pids:
        number = b""
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
            _, _, number = file.read().partition(b"Seccomp_filters:")
        if number and int(number.split(maxsplit=1)[0]) > MOST_FILTERS:
            raise Unmeasurable(f"has more than {MOST_FILTERS} system call filters in a process")


def maps_of(pids: Iterable[int]) -> int:
    """Memory maps of these processes, of which each costs the kernel the same."""
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
            while chunk := file.read(1 << 16):
                found += chunk.count(b"\n")
    return found


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
    return target_of(path).startswith("/memfd:")


def target_of(path: str) -> str:
    """What a descriptor's link in /proc says; nothing for one that was closed meanwhile."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


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


@dataclass(frozen=True)
class Tree:
    """What a tree takes on disk; links are not followed, hard links count once."""

    bytes: int
    entries: int


def tree_of(top: Path) -> Tree:
    """Raises Unmeasurable, Unreadable, OSError."""
    return tree_in(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))


def tree_in(top: int) -> Tree:
    """Of a folder's descriptor, which it closes; raises Unmeasurable, Unreadable, OSError."""
    walk = Walk()
    walk.run(top)
    if walk.closed:
        raise Unreadable("has folders that nobody may look into")
    return Tree(walk.bytes, walk.entries)


def tree_size(top: Path) -> int:
    """Bytes that a tree takes on disk; raises Unmeasurable, Unreadable, OSError."""
    return tree_of(top).bytes


class Walk:
    """One look at a tree that hostile code may be changing: descriptors and single names only."""

    def __init__(self) -> None:
        self.bytes = 0
        self.entries = 0
        self.closed = False
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

    def _enter(self, folder: int, name: str) -> int:
        """The folder's descriptor; -1 when it is gone, or made unreadable for an ordinary user."""
        try:
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            self.closed = self.closed or isinstance(error, PermissionError)
            return -1

    def _look(self, folder: int) -> list[str]:
        """Count what is in a folder; the names of the folders in it."""
        folders = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self.entries += 1
                if self.entries > MOST_FILES:
                    raise Unmeasurable(f"holds more than {MOST_FILES:,} files")
                with self._suppressed():
                    self._count(entry.stat(follow_symlinks=False))
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        return folders

    @contextlib.contextmanager
    def _suppressed(self) -> Iterator[None]:
        """What is gone counts for nothing; what a folder without x hides is noted."""
        try:
            yield
        except OSError as error:
            self.closed = self.closed or isinstance(error, PermissionError)

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


def free_files(folder: Path) -> int:
    """Inodes that are left; a disk that does not count them has plenty."""
    status = os.statvfs(folder)
    return status.f_favail if status.f_files else 1 << 40


def free_disk(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
