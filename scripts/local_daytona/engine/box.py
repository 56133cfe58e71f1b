"""One running sandbox: its bubblewrap process, its control socket, what may be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import io
import json
import os
import select
import signal
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import Host, base_environment, bwrap_command
from .control import Answer, Control, close_all
from .errors import EngineUnavailable, FileProblem, SandboxGone
from .helper import PROXY
from .leftovers import Leftovers, has_ended
from .limits import Resources
from .mounts import Mount, open_source, top_of
from .refusals import explain
from .rootfs import SandboxFolders
from .seccomp import program
from .sentry import Received
from .usage import Tree, is_terminal_master

START_TIMEOUT_S = 20.0
ODD_ANSWER = "the sandbox answered with something else than what was asked for"
STOP_GRACE_S = 2.0
KILL_GRACE_S = 10.0
LARGEST_ANSWER = 8 * 1024 * 1024  # the agent's own bound for a file operation's JSON, in bytes
MOST_VALUES = 500_000  # in it: an agent that is not ours could make each of three bytes an object
FILE_TIMEOUT_S = 120.0
READ_CHUNK = 256 * 1024
LIBC = ctypes.CDLL(None, use_errno=True)
CONNECT_TIMEOUT_S = 5.0
# Below it nothing inside may listen: what does is this server's (engine.helper), and its proxy.
FIRST_FREE_PORT = 1024
# PROC_SUPER_MAGIC and SYSFS_MAGIC of include/uapi/linux/magic.h
KERNEL_FILE_SYSTEMS = (0x9FA0, 0x62656572)


@dataclass
class Running:
    """A process inside.

    `pid` is the sandbox's own number for it; `exited` holds its exit code, or minus the signal.
    """

    key: str
    pid: int
    exited: asyncio.Future[int]


class Box:
    """A started sandbox. Create it with `Box.start`; it is over when `closed` is set."""

    def __init__(
        self, host: Host, folders: SandboxFolders, *, sandbox_id: str, resources: Resources
    ) -> None:
        self.host = host
        self.folders = folders
        self.sandbox_id = sandbox_id
        self.resources = resources
        self.closed = asyncio.Event()
        # Why the server ended it on its own account, as a sentence.
        self.ended_because: str | None = None
        self.pid = -1  # of its first process, as the host counts
        self._exits: dict[str, asyncio.Future[int]] = {}
        self._control: Control
        self._process: subprocess.Popen[bytes] | None = None
        self._pid1 = -1

    @classmethod
    async def start(
        cls,
        host: Host,
        folders: SandboxFolders,
        *,
        sandbox_id: str,
        name: str,
        resources: Resources,
        mounts: Sequence[Mount] = (),
    ) -> Box:
        """Start bubblewrap and wait for the agent.

        Raises EngineUnavailable with what bubblewrap said, OSError for a volume.
        """
        box = cls(host, folders, sandbox_id=sandbox_id, resources=resources)
        await asyncio.to_thread(make_inert, host, folders, mounts)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        received = Received(box.kill_for)
        received.note([ours.fileno()])  # closing it closes what still lies in it
        box._control = Control(
            ours, received=received, on_exit=box._on_exit, on_close=box._on_close
        )
        # A pipe: the first process keeps its end, and a file would be the host's to fill.
        said, complaints = os.pipe()
        os.set_blocking(said, False)
        with theirs, os.fdopen(said, "rb", buffering=0) as said_by_it:
            spawning = asyncio.ensure_future(
                asyncio.to_thread(box._spawn, theirs, complaints, name, mounts)
            )
            try:
                await asyncio.shield(spawning)
            except BaseException:
                await asyncio.wait({spawning})  # a cancelled start has a process too
                await box.stop()
                raise
            finally:
                os.close(complaints)
            theirs.close()
            await box._become_ready(said_by_it)
        return box

    def _spawn(
        self, control: socket.socket, complaints: int, name: str, mounts: Sequence[Mount]
    ) -> None:
        """Run bubblewrap and confine its child. In a thread: fork and exec take milliseconds."""
        with contextlib.ExitStack() as opened:
            volumes: list[tuple[Mount, int | None]] = []
            for mount in mounts:
                fd = open_source(mount, self.host.owner) if mount.subpath else None
                volumes.append((mount, fd))
                if fd is not None:
                    opened.callback(os.close, fd)
            info, confined = self._spawn_with(control, complaints, name, volumes)
        try:
            self._confine(info)
            with contextlib.suppress(BrokenPipeError):  # bubblewrap failed; its words tell why
                os.write(confined, b"1")
        except BaseException:
            self._kill()  # before its block ends with the pipe: nothing runs without limits
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
            is_over = isinstance(error, ProcessLookupError) and self._pid1 < 0
            if not is_over and (self._pid1 < 0 or not has_ended(self._pid1, 0)):
                raise

    def _confine_child(self, child: int) -> None:
        self._pid1 = os.pidfd_open(child)
        self.pid = child
        self._leftovers.note(self.sandbox_id, child)
        if self.host.groups is not None:
            self.host.groups.enter(self.sandbox_id, child, self.resources)
        self.host.helper.limit(child, self.resources.of_the_first_process())
        self.host.owner.prefer_for_oom(child)

    @property
    def _leftovers(self) -> Leftovers:
        return Leftovers(self.folders.running)

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
                self.host,
                self.folders,
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
        options = {} if self.host.python.hidden else self.host.owner.popen_options()
        self._process = subprocess.Popen(
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

    async def _become_ready(self, complaints: io.FileIO) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(self._control.ready), START_TIMEOUT_S)
        except (asyncio.TimeoutError, SandboxGone) as error:
            await self.stop()
            said = (complaints.read(4000) or b"").decode(errors="replace").strip()
            raise EngineUnavailable(
                said or f"the sandbox did not start: {error}",
                fix=explain(said, self.host.bwrap.path),
            ) from error
        except BaseException:
            await self.stop()
            raise

    @property
    def is_running(self) -> bool:
        return self._control.is_open

    def network(self) -> int:
        """A descriptor of its network namespace, the caller's to close; raises OSError."""
        found = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if self._pid1 < 0 or has_ended(self._pid1, 0):  # the number may be another process's by now
            os.close(found)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return found

    def measure(self, part: Path) -> Tree:
        """What a part of its storage takes, with folders that it closed to this user.

        Raises OSError.
        """
        folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        network = -1
        try:
            network = self.network()
            return Tree(*self.host.helper.measure(network, folder))
        finally:
            close_all((folder, network))

    def buffers(self) -> int:
        """Bytes that wait in its sockets; raises OSError."""
        network = self.network()
        try:
            return self.host.helper.buffers(network)
        finally:
            os.close(network)

    def end(self, reason: str) -> None:
        """End it on the server's own account; callers that wait are told why.

        `closed` is set when this returns.
        """
        self.kill_for(reason)
        self._control.close(reason)

    def kill_for(self, reason: str) -> None:
        """End its processes, from any thread; the loop notices that its control socket ends."""
        self.ended_because = reason
        self._kill()

    async def resize(self, resources: Resources) -> None:
        """Another size while it runs; processes that run keep their own limits. Raises OSError."""
        self.resources = resources
        if self.host.groups is not None:
            await asyncio.to_thread(self.host.groups.limit, self.sandbox_id, resources)

    async def stop(self) -> None:
        """End every process of the sandbox; returns when the kernel has."""
        self._control.close()
        if self._process is not None:
            await asyncio.to_thread(self._end_processes, self._process)

    def _end_processes(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end, and kill after a grace. In a thread.

        An agent that code inside took over may ignore the end of its socket.
        """
        if not self._have_ended(process, STOP_GRACE_S):
            self._kill()
            if not self._have_ended(process, KILL_GRACE_S):
                # The kernel still holds it in a system call; the server's next start looks again.
                return
        if self._pid1 >= 0:
            os.close(self._pid1)
            self._pid1 = -1
            self._leftovers.forget(self.sandbox_id)
            if self.host.groups is not None:
                self.host.groups.remove(self.sandbox_id)

    def _have_ended(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        """Whether the sandbox's first process, and with it all others, and bubblewrap have ended.

        Bubblewrap may end before the first process does.
        """
        deadline = time.monotonic() + seconds
        if self._pid1 >= 0 and not has_ended(self._pid1, int(seconds * 1000)):
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        return process.returncode is not None

    def _kill(self) -> None:
        """End the first process, which bubblewrap reaps; bubblewrap itself where that is over."""
        with contextlib.suppress(ProcessLookupError):
            if self._pid1 >= 0 and not has_ended(self._pid1, 0):
                signal.pidfd_send_signal(self._pid1, signal.SIGKILL)
            elif self._process is not None:
                self._process.kill()

    def _on_exit(self, key: str, code: int) -> None:
        future = self._exits.pop(key, None)
        if future is not None and not future.done():
            future.set_result(code)

    def _on_close(self) -> None:
        for future in self._exits.values():
            if not future.done():
                future.set_result(-signal.SIGKILL)
        self._exits.clear()
        self.closed.set()

    def environment(self, *more: Mapping[str, str]) -> dict[str, str]:
        """The base environment with `more` laid over it, the last winning."""
        result = base_environment(self.host, sandbox_id=self.sandbox_id)
        for variables in more:
            result.update(variables)
        return result

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdio: tuple[int, ...],
        environment: Mapping[str, str],
        cwd: str,
    ) -> Running:
        """Start a process with three or four descriptors, which stay the caller's to close.

        Raises FileProblem, SandboxGone.
        """
        key, exited = self._expect_exit()
        try:
            answer = await self._ask(
                "exec",
                stdio,
                key=key,
                argv=list(argv),
                env=dict(environment),
                cwd=cwd,
                limits=self.resources.rlimits(),
            )
            return Running(key=key, pid=self._number_in(answer, "pid"), exited=exited)
        except BaseException:
            self._exits.pop(key, None)
            raise

    async def _ask(self, op: str, fds: Sequence[int] = (), **values: Any) -> Answer:
        """A request whose answer is values only."""
        answer = await self._control.request(op, fds, **values)
        if answer.fds:
            raise self._breach(answer.fds)
        return answer

    def _breach(self, fds: Sequence[int]) -> SandboxGone:
        """End a sandbox whose agent is not ours any more, and only then close what it sent.

        The close of a socket may wait for its other end, which ends with the sandbox.
        """
        self.end(ODD_ANSWER)
        close_all(fds)
        return SandboxGone(ODD_ANSWER)

    def _number_in(self, answer: Answer, name: str, *opened: int) -> int:
        """A whole number of an answer; for anything else closes `opened`, raises SandboxGone."""
        value = answer.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._breach(opened)
        return value

    def _only_descriptor(self, answer: Answer, wanted: Callable[[int], bool]) -> int:
        """The one descriptor of an answer; raises SandboxGone unless `wanted` says yes to it."""
        if len(answer.fds) == 1 and wanted(answer.fds[0]):
            return answer.fds[0]
        raise self._breach(answer.fds)

    def _expect_exit(self) -> tuple[str, asyncio.Future[int]]:
        key = uuid.uuid4().hex
        exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exits[key] = exited
        return key, exited

    async def kill(
        self, running: Running, number: int = signal.SIGKILL, *, alone: bool = False
    ) -> int:
        """Signal the process and, unless `alone`, all that it started, double-forked ones included.

        With 0 as the signal nothing is sent. Returns how many processes there were.
        """
        try:
            answer = await self._ask("kill", key=running.key, signal=int(number), alone=alone)
        except SandboxGone:
            return 0
        return self._number_in(answer, "found")

    async def open_file(self, path: str, mode: str) -> int:
        """A descriptor of a regular file, opened inside; raises FileProblem.

        `mode` is "r", or "w", which also makes the file and the folders above it.
        """
        answer = await self._control.request("open", path=path, mode=mode)
        return self._only_descriptor(answer, is_readable_file if mode == "r" else is_writable_file)

    async def fifos(
        self, folder: str, *, readers: Sequence[str], writers: Sequence[str] = ()
    ) -> tuple[int, ...]:
        """The server's ends of new FIFOs inside: those it reads, then those it writes.

        They never block; the caller closes them.
        """
        answer = await self._control.request(
            "fifos", folder=folder, readers=list(readers), writers=list(writers)
        )
        pipes = [fd for fd in answer.fds if stat.S_ISFIFO(os.fstat(fd).st_mode)]
        if not len(pipes) == len(answer.fds) == len(readers) + len(writers):
            raise self._breach(answer.fds)
        try:
            return tuple(own_descriptions(answer.fds))
        finally:
            close_all(answer.fds)

    async def terminal(
        self, argv: Sequence[str], *, environment: Mapping[str, str], cwd: str
    ) -> tuple[Running, int]:
        """Start a process on a terminal of its own.

        The descriptor is the master's side: it never blocks, and the caller closes it.
        """
        key, exited = self._expect_exit()
        try:
            answer = await self._control.request(
                "terminal",
                key=key,
                argv=list(argv),
                env=dict(environment),
                cwd=cwd,
                limits=self.resources.rlimits(),
            )
            master = self._only_descriptor(answer, is_terminal)
            pid = self._number_in(answer, "pid", master)
        except BaseException:
            self._exits.pop(key, None)
            raise
        os.set_blocking(master, False)
        return Running(key=key, pid=pid, exited=exited), master

    async def connect(self, port: int) -> socket.socket:
        """A socket connected to a loopback port inside, over IPv4 or else IPv6.

        Raises FileProblem when nothing listens there.
        """
        if port < FIRST_FREE_PORT or port == PROXY[1]:
            raise FileProblem(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        try:
            return await self._connect("127.0.0.1", port)
        except FileProblem:
            return await self._connect("::1", port)

    async def _connect(self, host: str, port: int) -> socket.socket:
        found = await self._socket(host, port)
        try:
            await asyncio.wait_for(writable(found.fileno()), CONNECT_TIMEOUT_S)
            code = found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except BaseException as error:
            found.close()
            if isinstance(error, asyncio.TimeoutError):
                raise FileProblem(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            raise
        if code:
            found.close()
            raise FileProblem(code, os.strerror(code))
        return found

    async def _socket(self, host: str, port: int) -> socket.socket:
        """From outside, so that nobody inside shares it; where this host refuses that, from inside.

        Raises FileProblem, SandboxGone.
        """
        try:
            return await asyncio.to_thread(self._socket_from_outside, host, port)
        except ConnectionRefusedError as error:
            raise FileProblem(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)) from error
        except (OSError, subprocess.SubprocessError):
            answer = await self._control.request("connect", host=host, port=port)
        found = socket.socket(fileno=self._only_descriptor(answer, is_stream_socket))
        found.setblocking(False)
        return found

    def _socket_from_outside(self, host: str, port: int) -> socket.socket:
        network = self.network()
        try:
            return self.host.helper.connect(network, host, port)
        finally:
            os.close(network)

    async def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens inside and is accepted from here.

        Raises FileProblem when the port is taken.
        """
        answer = await self._control.request("listen", host=host, port=port)
        found = socket.socket(fileno=self._only_descriptor(answer, is_stream_socket))
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise self._breach([found.detach()])
        found.setblocking(False)
        return found

    async def files(self, action: str, **values: Any) -> Any:
        """Run a file operation inside; its JSON value, unchecked. Raises FileProblem."""
        key, _ = self._expect_exit()
        read_end, write_end = os.pipe()
        try:
            limits = self.resources.rlimits()
            await self._ask("files", (write_end,), key=key, action=action, limits=limits, **values)
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        data = await read_all(read_end, limit=LARGEST_ANSWER + 1, timeout_s=FILE_TIMEOUT_S)
        if not data and not self.is_running:
            raise SandboxGone(self.ended_because or "the sandbox was stopped")
        return await asyncio.to_thread(_file_value, data)


def make_inert(host: Host, folders: SandboxFolders, mounts: Sequence[Mount]) -> None:
    """Nothing of what code inside wrote decides over its next start; raises OSError."""
    folders.set_preload_aside()
    if host.overlay:
        folders.free_mount_points(host.owner, {top_of(mount) for mount in mounts})


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


def own_descriptions(fifos: Sequence[int]) -> list[int]:
    """The same FIFOs opened by this server, never blocking; raises SandboxGone.

    Whoever shares a description can make its other users wait.
    """
    opened: list[int] = []
    try:
        for fd in fifos:
            mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            flags = mode | os.O_NONBLOCK | os.O_CLOEXEC
            opened.append(os.open(f"/proc/self/fd/{fd}", flags))
    except OSError as error:
        close_all(opened)
        raise SandboxGone(f"the sandbox's pipes cannot be opened: {error.strerror}") from None
    return opened


def is_readable_file(fd: int) -> bool:
    return is_plain_file(fd) and access_mode(fd) in (os.O_RDONLY, os.O_RDWR)


def is_writable_file(fd: int) -> bool:
    return is_plain_file(fd) and access_mode(fd) in (os.O_WRONLY, os.O_RDWR)


def is_plain_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and not is_kernel_file(fd)


def access_mode(fd: int) -> int:
    """O_RDONLY, O_WRONLY or O_RDWR; -1 for a descriptor that only names a file."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return -1 if flags & os.O_PATH else flags & os.O_ACCMODE


def is_terminal(fd: int) -> bool:
    return is_terminal_master(os.fstat(fd))


def is_stream_socket(fd: int) -> bool:
    """TCP, of IPv4 or IPv6: a UNIX socket could carry more descriptors."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as found:
        is_internet = found.family in (socket.AF_INET, socket.AF_INET6)
        return is_internet and found.type == socket.SOCK_STREAM


def is_kernel_file(fd: int) -> bool:
    """Whether a descriptor is of procfs or sysfs; the agent's own refusal is not believed."""
    answer = ctypes.create_string_buffer(512)  # struct statfs begins with its f_type, a long
    if LIBC.fstatfs(fd, answer) != 0:
        return True
    return ctypes.c_long.from_buffer(answer).value in KERNEL_FILE_SYSTEMS


def _file_value(data: bytes) -> Any:
    if len(data) > LARGEST_ANSWER or sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise FileProblem(0, "the file operation's answer is too long")
    try:
        reply = json.loads(data)
        if "error" in reply:
            raise FileProblem(int(reply["error"]), str(reply["message"])[:500])
        return reply["value"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FileProblem(0, "the file operation gave no answer") from error


async def read_all(fd: int, *, limit: int, timeout_s: float | None = None) -> bytes:
    """All of a pipe up to `limit` bytes, the rest read and dropped; closes it.

    After `timeout_s` what came until then.
    """
    data = bytearray()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_collect(fd, data, limit), timeout_s)
    return bytes(data)


async def _collect(fd: int, data: bytearray, limit: int) -> None:
    async for chunk in chunks(fd):
        data += chunk[: max(0, limit - len(data))]


async def chunks(fd: int) -> AsyncIterator[bytes]:
    """What arrives in a pipe, until every writer has closed it; closes `fd` at the end.

    It waits before it reads: a FIFO that nobody has opened yet reads as ended.
    """
    os.set_blocking(fd, False)
    try:
        await readable(fd)
        while True:
            try:
                chunk = os.read(fd, READ_CHUNK)
            except BlockingIOError:
                await readable(fd)
                continue
            if not chunk:
                return
            yield chunk
            await asyncio.sleep(0)  # a writer as fast as this would keep all others waiting
    finally:
        os.close(fd)


async def readable(fd: int) -> None:
    """Wait until `fd` has data or its end to read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Wait until `fd` takes data, or its reader is gone."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)
