"""Starting, reaping and killing the processes of a sandbox, from its pid 1."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import termios

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Values = dict[str, Any]

# In every environment: finds the children that left their session and their parent.
MARKER = "DAYTONA_EXEC"
KILL_ROUNDS = 20
MOST_STDIO = 4
CLEAR_OF_STDIO = 10  # from here on no descriptor is in the way of a child's first ones
DEFAULT_INSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)
LIMITS = {
    "processes": resource.RLIMIT_NPROC,
    "data": resource.RLIMIT_DATA,
    "file_size": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "core": resource.RLIMIT_CORE,
}


class Processes:
    """Children by the key that the server gave them."""

    def __init__(self) -> None:
        self.keys: dict[int, str] = {}

    def spawn(self, request: Values, fds: Sequence[int]) -> int:
        """Start request["argv"] with the descriptors as stdio, a fourth as number 3; its pid.

        Raises OSError as exec does.
        """
        failed_r, failed_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            become(request, fds, failed_w)
        os.close(failed_w)
        code = read_all(failed_r)
        os.close(failed_r)
        if code:
            os.waitpid(pid, 0)
            raise OSError(int(code), os.strerror(int(code)))
        self.keys[pid] = request["key"]
        return pid

    def fork(self, key: str, work: Callable[[], None]) -> None:
        """Run `work()` in a child that never returns here."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        self.keys[pid] = key

    def reap(self) -> list[tuple[str, int]]:
        """(key, code) of each that ended; code is the exit code, or minus the signal.

        Orphans are reaped too, and not told.
        """
        ended: list[tuple[str, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            key = self.keys.pop(pid, None)
            if key is not None:
                ended.append((key, decode(status)))

    def kill(self, key: str, number: int, *, alone: bool = False) -> int:
        """Signal all that `key` started, double-forked children included; how many there were.

        With `alone` only the process itself. SIGKILL is repeated until a look at /proc finds none,
        because a process may fork while it is being read.
        """
        roots = {pid for pid, known in self.keys.items() if known == key}
        for _ in range(KILL_ROUNDS if number == signal.SIGKILL else 1):
            found = roots if alone else family(roots, key)
            if not found:
                break
            for pid in found:
                send_signal(pid, number)
        return len(found)


def become(request: Values, fds: Sequence[int], failed: int) -> None:
    """In the child: stdio, session, limits, then exec.

    The errno of a failure goes to `failed`, which a good exec closes.
    """
    try:
        os.setsid()
        failed = fcntl.fcntl(failed, fcntl.F_DUPFD_CLOEXEC, CLEAR_OF_STDIO)
        fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, CLEAR_OF_STDIO) for fd in fds[:MOST_STDIO]]
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        if request["op"] == "terminal":
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in DEFAULT_INSIDE:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        limit(request.get("limits", {}))
        os.chdir(request["cwd"])
        environment = dict(request["env"], **{MARKER: request["key"]})
        os.execvpe(request["argv"][0], request["argv"], environment)
    except OSError as error:
        os.write(failed, str(error.errno or errno.EIO).encode())
    finally:
        os._exit(127)


def limit(limits: dict[str, int]) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("800")
    except OSError:  # a container may have begun with more, which nobody in it may lower
        pass
    for name, value in limits.items():
        # The server's own user may have less already, and nobody here may raise it.
        _, most = resource.getrlimit(LIMITS[name])
        allowed = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(LIMITS[name], (allowed, allowed))


def read_all(fd: int) -> bytes:
    data = b""
    while True:
        chunk = os.read(fd, 64)
        if not chunk:
            return data
        data += chunk


def decode(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def family(roots: Iterable[int], key: str) -> set[int]:
    """Pids that descend from `roots`, share a session with one, or carry the marker of `key`.

    Zombies are left out.
    """
    marker, table = f"{MARKER}={key}".encode(), process_table()
    found: set[int] = set()
    for pid, (_, session) in table.items():
        if pid in roots or session in roots or marker in environment_of(pid):
            found.add(pid)
    grown = True
    while grown:
        children = {pid for pid, (parent, _) in table.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return found


def process_table() -> dict[int, tuple[int, int]]:
    """{pid: (parent, session)} of all living processes but pid 1."""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            table[int(name)] = (int(fields[1]), int(fields[3]))
    return table


def environment_of(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return environ.read().split(b"\0")
    except OSError:
        return []
