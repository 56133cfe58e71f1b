"""Control groups: one a sandbox, below the server's own, where this server may make them.

Only below a group that is the server's to divide: the top of a version 1 hierarchy as it is mounted
here, or a version 2 group that was delegated to this server. Groups that somebody else made and
watches (a login session's, a service manager's) are left alone, and the watchdog does their work.
Version 2 is written from its documentation and was not tested on a real machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .limits import AGENT_PROCESSES, MIB, PROCESSES_PER_SANDBOX, Resources

log = logging.getLogger(__name__)
WANTED = ("memory", "pids", "cpu")
PERIOD_US = 100_000
AGENT_MEMORY = 64 * MIB
PREFIX = "local-daytona-"
ABANDONED_S = 600.0  # a group is empty only while its sandbox starts or ends
REMOVE_TIMEOUT_S = 5.0
RETRY_S = 0.01
SERVERS_OWN = "daytona-server"  # version 2 wants no process in a group that is divided


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo that is a cgroup hierarchy.

    Where it is, which of its groups is at the top there, its kind and its options.
    """

    place: Path
    top: str
    kind: str
    options: frozenset[str]


def mounted(mountinfo: str) -> list[Mounted]:
    """The hierarchies of /proc/self/mountinfo's text that are mounted for writing."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(kinds) >= 3 and kinds[0] in ("cgroup", "cgroup2") and "rw" in fields[5].split(","):
            options = frozenset(kinds[2].split(","))
            found.append(Mounted(Path(fields[4]), fields[3], kinds[0], options))
    return found


def own_groups(cgroup: str) -> dict[str, str]:
    """{controller: group} of /proc/self/cgroup's text; version 2 is the controller ""."""
    found = {}
    for line in cgroup.splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = group
    return found


@dataclass(frozen=True)
class Groups:
    """Where sandboxes' groups are made: {controller: folder}; with version 2 all in one folder."""

    version: int
    parents: Mapping[str, Path]
    prefix: str

    @property
    def controllers(self) -> tuple[str, ...]:
        return tuple(self.parents)

    def has(self, controller: str) -> bool:
        return controller in self.parents

    def describe(self) -> str:
        return f"cgroup v{self.version} ({', '.join(self.controllers)})"

    def enter(self, name: str, pid: int, resources: Resources) -> None:
        """Make a sandbox's groups and put its first process in.

        Raises OSError, and then leaves none behind.
        """
        try:
            for folder in self._folders(name):
                folder.mkdir(exist_ok=True)
            self.limit(name, resources)
            for folder in self._folders(name):
                (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            self.remove(name)
            raise

    def limit(self, name: str, resources: Resources) -> None:
        """Set or change the limits; raises OSError."""
        for controller, parent in self.parents.items():
            for file, value in values(self.version, controller, resources).items():
                (parent / (self.prefix + name) / file).write_text(value)

    def remove(self, name: str) -> None:
        """Take a sandbox's groups away.

        Its processes have ended, though the kernel may still be putting them away.
        """
        for folder in self._folders(name):
            remove_group(folder)

    def clean(self) -> None:
        """End and remove what a killed server of this state folder left.

        Also remove empty groups of other servers that never came back.
        """
        for parent in set(self.parents.values()):
            for folder in parent.glob(f"{self.prefix}*"):
                kill_all(folder)
                remove_group(folder)
            for folder in parent.glob(f"{PREFIX}*"):
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > ABANDONED_S:
                        folder.rmdir()

    def _folders(self, name: str) -> Iterable[Path]:
        return dict.fromkeys(parent / (self.prefix + name) for parent in self.parents.values())


def values(version: int, controller: str, resources: Resources) -> dict[str, str]:
    """File names and what to write into them for one controller."""
    memory = str(resources.memory * 1024 * MIB + AGENT_MEMORY)
    quota = resources.cpu * PERIOD_US
    processes = str(PROCESSES_PER_SANDBOX + AGENT_PROCESSES)
    table = {
        (1, "memory"): {"memory.limit_in_bytes": memory},
        (1, "pids"): {"pids.max": processes},
        (1, "cpu"): {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)},
        (2, "memory"): {"memory.max": memory},
        (2, "pids"): {"pids.max": processes},
        (2, "cpu"): {"cpu.max": f"{quota} {PERIOD_US}"},
    }
    return table[version, controller]


def find_groups(state: Path) -> Groups | None:
    """The groups that this server may use for sandboxes of the folder `state`; None without any."""
    prefix = f"{PREFIX}{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}-"
    hierarchies = mounted(Path("/proc/self/mountinfo").read_text())
    own = own_groups(Path("/proc/self/cgroup").read_text())
    parents = first_version(hierarchies, own)
    if parents:
        return Groups(1, parents, prefix)
    parents = second_version(hierarchies, own)
    return Groups(2, parents, prefix) if parents else None


def first_version(hierarchies: Iterable[Mounted], own: Mapping[str, str]) -> dict[str, Path]:
    """Version 1 controllers whose top group is this server's own and writable."""
    found = {}
    for controller in WANTED:
        for hierarchy in hierarchies:
            is_its = hierarchy.kind == "cgroup" and controller in hierarchy.options
            is_own = is_its and own.get(controller) == hierarchy.top
            if is_own and os.access(hierarchy.place, os.W_OK):
                found[controller] = hierarchy.place
    return found


def second_version(hierarchies: Iterable[Mounted], own: Mapping[str, str]) -> dict[str, Path]:
    """All wanted controllers of a version 2 group that was delegated to this server.

    The server then divides it.
    """
    for hierarchy in hierarchies:
        top = hierarchy.top.rstrip("/")
        if hierarchy.kind != "cgroup2" or "" not in own or not own[""].startswith(top):
            continue
        group = hierarchy.place / own[""][len(top) :].lstrip("/")
        if os.access(group / "cgroup.subtree_control", os.W_OK) and divided(group):
            return dict.fromkeys(WANTED, group)
    return {}


def divided(group: Path) -> bool:
    """Hand the wanted controllers on to the groups below.

    False when they are missing, or when other processes live in the group.
    """
    try:
        if not set(WANTED) <= set((group / "cgroup.controllers").read_text().split()):
            return False
        if set(WANTED) <= set((group / "cgroup.subtree_control").read_text().split()):
            return True
        if set(pids_in(group)) != {os.getpid()}:
            return False
        (group / SERVERS_OWN).mkdir(exist_ok=True)
        (group / SERVERS_OWN / "cgroup.procs").write_text(str(os.getpid()))
        wanted = " ".join(f"+{controller}" for controller in WANTED)
        (group / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        log.info("control groups are not used: %s", error)
        return False
    return True


def pids_in(group: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, (group / "cgroup.procs").read_text().split())


def kill_all(group: Path) -> None:
    """End every process of a group, also those that are born meanwhile."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while (pids := list(pids_in(group))) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(RETRY_S)


def remove_group(group: Path) -> None:
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                log.warning("the control group %s stays: %s", group, error)
                return
            time.sleep(RETRY_S)
        else:
            return
