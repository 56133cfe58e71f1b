"""Bubblewrap and a sandbox's first process: started, confined before it runs anything, ended."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

from .bubblewrap import Host, bwrap_command
from .control_socket import close_all
from .limits import Resources
from .orphans import OrphanReaper, has_ended
from .rootfs import SandboxFolders
from .seccomp import program
from .volume_mounts import Mount, open_source

START_TIMEOUT_S = 20.0
STOP_GRACE_S = 2.0
KILL_GRACE_S = 10.0


class FirstProcess:
    """Of one sandbox; nothing runs before `spawn`. `pid` is its number as the host counts."""

    def __init__(
        self, host: Host, folders: SandboxFolders, *, sandbox_id: str, resources: Resources
    ) -> None:
        self._host = host
        self._folders = folders
        self._sandbox_id = sandbox_id
        self._resources = resources
        self._bubblewrap: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self.pid = -1

    def spawn(
        self, control: socket.socket, complaints: int, name: str, mounts: Sequence[Mount]
    ) -> None:
        """Run bubblewrap and confine its child. In a thread: fork and exec take milliseconds."""
        with contextlib.ExitStack() as opened:
            volumes: list[tuple[Mount, int | None]] = []
            for mount in mounts:
                fd = open_source(mount, self._host.owner) if mount.subpath else None
                volumes.append((mount, fd))
                if fd is not None:
                    opened.callback(os.close, fd)
            info, confined = self._spawn_with(control, complaints, name, volumes)
        try:
            self._confine(info)
            with contextlib.suppress(BrokenPipeError):  # bubblewrap failed; its words tell why
                os.write(confined, b"1")
        except BaseException:
            self.kill()  # before its block ends with the pipe: nothing runs without limits
            raise
        finally:
            os.close(info)
            os.close(confined)

    def _confine(self, info: int) -> None:
        """Note the first process and limit it from outside; raises OSError.

        It waits for that before its first exec. When bubblewrap fails there is no process, or it
        ends meanwhile, and bubblewrap's words tell why.
        """
        child = child_pid(info)
        if child is None:
            return
        try:
            self._confine_child(child)
        except OSError as error:
            is_over = isinstance(error, ProcessLookupError) and self._pidfd < 0
            if not is_over and (self._pidfd < 0 or not has_ended(self._pidfd, 0)):
                raise

    def _confine_child(self, child: int) -> None:
        self._pidfd = os.pidfd_open(child)
        self.pid = child
        self._orphans.note(self._sandbox_id, child)
        if self._host.groups is not None:
            self._host.groups.enter(self._sandbox_id, child, self._resources)
        self._host.helper.limit(child, self._resources.of_the_first_process())
        self._host.owner.prefer_for_oom(child)

    @property
    def _orphans(self) -> OrphanReaper:
        return OrphanReaper(self._folders.running)

    def _spawn_with(
        self,
        control: socket.socket,
        complaints: int,
        name: str,
        volumes: Sequence[tuple[Mount, int | None]],
    ) -> tuple[int, int]:
        """Run the command; ends of its --info-fd and --block-fd, which the caller closes."""
        filter_r, filter_w = os.pipe()
        info_r, info_w = os.pipe()
        block_r, block_w = os.pipe()
        try:
            os.write(filter_w, program())
            os.close(filter_w)
            command = bwrap_command(
                self._host,
                self._folders,
                name=name,
                control=control.fileno(),
                seccomp=filter_r,
                info=info_w,
                block=block_r,
                volumes=volumes,
            )
            parts = [fd for _, fd in volumes if fd is not None]
            self._popen(command, [control.fileno(), filter_r, info_w, block_r, *parts], complaints)
        except BaseException:
            close_all((info_r, block_w))
            raise
        finally:
            close_all((filter_r, info_w, block_r))
        return info_r, block_w

    def _popen(self, command: Sequence[str], inherited: Sequence[int], complaints: int) -> None:
        options = {} if self._host.python.hidden else self._host.owner.popen_options()
        self._bubblewrap = subprocess.Popen(
            command,
            pass_fds=inherited,
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )

    def kill(self) -> None:
        """End the first process, which bubblewrap reaps; bubblewrap itself where that is over."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0 and not has_ended(self._pidfd, 0):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self._bubblewrap is not None:
                self._bubblewrap.kill()

    def end(self) -> None:
        """Wait for the end, and kill after a grace. In a thread.

        An agent that code inside took over may ignore the end of its socket.
        """
        process = self._bubblewrap
        if process is None:
            return
        if not self._have_ended(process, STOP_GRACE_S):
            self.kill()
            if not self._have_ended(process, KILL_GRACE_S):
                # The kernel still holds it in a system call; the server's next start looks again.
                return
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            self._orphans.forget(self._sandbox_id)
            if self._host.groups is not None:
                self._host.groups.remove(self._sandbox_id)

    def _have_ended(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        """Whether the sandbox's first process, and with it all others, and bubblewrap have ended.

        Bubblewrap may end before the first process does.
        """
        deadline = time.monotonic() + seconds
        if self._pidfd >= 0 and not has_ended(self._pidfd, int(seconds * 1000)):
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        return process.returncode is not None

    def network(self) -> int:
        """A descriptor of its network namespace, the caller's to close; raises OSError."""
        found = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if self._pidfd < 0 or has_ended(
            self._pidfd, 0
        ):  # the number may be another process's by now
            os.close(found)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return found


def child_pid(info: int) -> int | None:
    """The child's pid, which bubblewrap (not the sandbox) writes to its --info-fd.

    None when bubblewrap ended before it had a child, or hangs.
    """
    poll, data, deadline = select.poll(), b"", time.monotonic() + START_TIMEOUT_S
    poll.register(info, select.POLLIN)
    while poll.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        part = os.read(info, 65536)
        data += part
        if not part:
            break
    try:
        return int(json.loads(data)["child-pid"])
    except (ValueError, KeyError):
        return None
