"""Which host user owns the sandboxes: the server's own, or a spare uid below a root server."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineUnavailable

# Outside every range that distributions and systemd hand out. Bubblewrap run by uid 0 would leave
# kernel files such as core_pattern writable from inside, so a root server never runs it as itself
# (PROTOCOL.md, "Bubblewrap below root").
SPARE_UID = 1900000001
SPARE_UID_IN_SMALL_NAMESPACES = 60931
KERNEL_FILE = Path("/proc/sys/kernel/core_pattern")
OOM_SCORE = 300  # pid 1 of a sandbox; what it starts has more


@dataclass(frozen=True)
class Owner:
    """The host uid and gid that sandboxes run as; `dropped` when the server itself is root."""

    uid: int
    gid: int
    dropped: bool

    @classmethod
    def of_this_server(cls) -> Owner:
        """The server's own user, or the spare one below root.

        Raises EngineUnavailable where there is none.
        """
        if os.geteuid() != 0:
            return cls(uid=os.getuid(), gid=os.getgid(), dropped=False)
        for uid in (SPARE_UID, SPARE_UID_IN_SMALL_NAMESPACES):
            if is_mapped(uid):
                return cls(uid=uid, gid=uid, dropped=True)
        if not is_the_machines_root():  # a user's own namespace, who is root of nothing else
            return cls(uid=0, gid=0, dropped=False)
        raise EngineUnavailable(
            "this is the machine's root in a namespace that has no other user,"
            " and bubblewrap must not run as root",
            fix="start it outside this namespace (unshare, or a container with --userns)",
        )

    def popen_options(self) -> dict[str, object]:
        """Arguments of subprocess.Popen that make the child this owner."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}

    def make_folder(self, path: Path, mode: int = 0o700) -> Path:
        """Create `path` for this owner; its parents must exist and let the owner pass."""
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def prefer_for_oom(self, pid: int) -> None:
        """Below root, make a sandbox's first process die before the host's.

        What root raises, nobody inside lowers again.
        """
        if self.dropped:
            with contextlib.suppress(PermissionError):  # a container may have begun with more
                Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))

    def may_reach_folder(self, path: Path) -> bool:
        """Whether this owner can pass every folder on the way into `path`."""
        if not self.dropped:
            return os.access(path, os.X_OK)
        real = path.resolve()
        return all(folder.stat().st_mode & 0o001 for folder in (real, *real.parents))

    def may_reach(self, path: Path) -> bool:
        """Whether this owner can pass every folder on the way to `path`, and read it."""
        if not self.dropped:
            return os.access(path, os.R_OK)
        real = path.resolve()
        passes = all(parent.stat().st_mode & 0o001 for parent in real.parents)
        return passes and bool(real.stat().st_mode & 0o004)


def is_the_machines_root() -> bool:
    """Whether uid 0 here is uid 0 of the machine, who alone owns the kernel's files."""
    return KERNEL_FILE.stat().st_uid == 0


def is_mapped(uid: int) -> bool:
    """Whether this user namespace (a container's, say) knows `uid` at all."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= uid < first + count:
            return True
    return False
