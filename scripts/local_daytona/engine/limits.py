"""What one sandbox may use: today resource limits per process, set by the agent before each exec."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3
PROCESSES_PER_SANDBOX = 512  # the kernel counts them per user namespace, so per sandbox (Linux 5.14 and newer)
OPEN_FILES = 8192
SHARED_MEMORY = 64 * 1024**2
RUN_FOLDER = 16 * 1024**2

MECHANISM = "rlimits"  # what `status` reports


@dataclass(frozen=True)
class Resources:
    """A sandbox's size: vCPUs, GiB of memory, GiB of disk."""

    cpu: int
    memory: int
    disk: int

    def rlimits(self) -> dict[str, int]:
        """Limits in the agent's words; bytes, or counts."""
        return {
            "processes": PROCESSES_PER_SANDBOX,
            "data": self.memory * GIB,
            "file_size": self.disk * GIB,
            "open_files": OPEN_FILES,
            "core": 0,
        }
