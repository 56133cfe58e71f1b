"""Which processes are sandboxes of this state folder, noted on disk.

So the next server can end what a killed one left. Sandboxes end by themselves with their server;
one whose pid 1 was taken over by its own code need not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
END_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Identity:
    """One process for good: numbers come again, but not with the same start in the same boot."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises OSError when there is no such process."""
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return cls(pid, fields[19], BOOT_ID.read_text().strip())


@dataclass(frozen=True)
class OrphanReaper:
    """One file a running sandbox, in a folder that only the server can reach."""

    folder: Path

    def note(self, name: str, pid: int) -> None:
        """Remember that `pid` is the sandbox's first process; raises OSError."""
        found = Identity.of(pid)
        (self.folder / name).write_text(f"{found.pid} {found.started} {found.boot}")

    def forget(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def end_all(self) -> None:
        """Kill what still runs of a server that was killed, and wait for its end."""
        for path in sorted(self.folder.iterdir()):
            with contextlib.suppress(ValueError, OSError):
                pid, started, boot = path.read_text().split()
                end(Identity(int(pid), started, boot))
            path.unlink(missing_ok=True)

    def reap_unstarted(self, sandboxes: Path) -> None:
        """Kill bubblewraps that stopped halfway.

        Their server died before it knew their child, which then waits for ever.
        """
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                if is_bubblewrap_on(command, sandboxes):
                    end(Identity.of(int(name)))


def is_bubblewrap_on(command: bytes, sandboxes: Path) -> bool:
    """Whether a command line is that of bubblewrap with storage below this folder.

    Code inside that pretends to be one harms itself only.
    """
    program, *words = command.split(b"\0")
    place = os.fsencode(sandboxes) + b"/"
    return os.path.basename(program) == b"bwrap" and any(word.startswith(place) for word in words)


def end(process: Identity) -> None:
    """Kill exactly this process, and with it everything in its pid namespace.

    Raises OSError when it is gone.
    """
    handle = os.pidfd_open(process.pid)
    try:
        if Identity.of(process.pid) != process:
            return
        log.warning("process %d of a server that was killed still ran: it is ended", process.pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        has_ended(handle, END_TIMEOUT_MS)
    finally:
        os.close(handle)


def has_ended(handle: int, timeout_ms: int) -> bool:
    """Whether the process of a pidfd ended within that time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout_ms))
