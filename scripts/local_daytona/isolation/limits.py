"""What one sandbox may use: its size, and the bounds that every sandbox has."""

from __future__ import annotations

import resource
from dataclasses import dataclass

MIB = 1024**2
GIB = 1024**3
# The kernel counts them per user namespace, so per sandbox (Linux 5.14 and newer).
PROCESSES_PER_SANDBOX = 512
AGENT_PROCESSES = 8  # pid 1 and the children it forks for file operations
OPEN_FILES = 8192  # of one process
MOST_DESCRIPTORS = 65_536  # of all processes of a sandbox: the host's file table is shared
MOST_TERMINALS = 1024  # the kernel has 4096 for the whole machine
# Descriptors that wait in UNIX sockets: the kernel counts them for the host's user, whose programs
# together may have 1024.
MOST_IN_FLIGHT = 512
# What the kernel keeps for a sandbox in nobody's resident memory, in bytes at most or as measured.
PIPE_BUFFERS = 64 * 1024  # waiting in one pipe, in whole pages
HUGE_PIPE_BUFFERS = 2 * MIB  # where each of its pages keeps a larger piece of memory from others
MAP_SIZE, LOCK_SIZE, WATCH_SIZE = 256, 256, 192
MOST_PIPES = 4096
MOST_LOCKS = 100_000
MOST_FILTERS = 24  # of one process: ours, and those of what it starts in a sandbox of its own
FEW_BYTES = 64 * MIB  # what sockets may keep waiting without a look
SHARED_MEMORY = 64 * MIB
RUN_FOLDER = 16 * MIB
MOST_FILES = 1_000_000  # each takes an inode of the host's disk, also when it is empty
DEEPEST_FOLDER = 500
# What a sandbox that is over its disk may still write after a start, to delete and compress.
INSIDE_CLEANUP = 64 * MIB
# The host's last reserve: below these, the sandbox that took the most is ended.
FREE_MEMORY_FLOOR = 256 * MIB
FREE_DISK_FLOOR = 128 * MIB
FREE_FILES_FLOOR = 20_000  # inodes, where the disk counts them

NUMBERS = {
    "processes": resource.RLIMIT_NPROC,
    "data": resource.RLIMIT_DATA,
    "file_size": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "core": resource.RLIMIT_CORE,
}


@dataclass(frozen=True)
class Resources:
    """A sandbox's size: vCPUs, GiB of memory, GiB of disk."""

    cpu: int
    memory: int
    disk: int

    def rlimits(self) -> dict[str, int]:
        """Limits of each process in the agent's words; bytes, or counts."""
        return {
            "processes": PROCESSES_PER_SANDBOX,
            "data": self.memory * GIB,
            "file_size": self.disk * GIB,
            "open_files": OPEN_FILES,
            "core": 1,  # bytes: 0 does not hold where the host pipes dumps to a program (core(5))
        }

    def of_the_first_process(self) -> dict[int, int]:
        """Limits by their number: those of each process, with room for file operations."""
        found = {NUMBERS[name]: value for name, value in self.rlimits().items()}
        return {**found, resource.RLIMIT_NPROC: PROCESSES_PER_SANDBOX + AGENT_PROCESSES}


def mebibytes(count: int) -> str:
    """123 MiB of bytes, for a sentence."""
    return f"{count // MIB} MiB"
