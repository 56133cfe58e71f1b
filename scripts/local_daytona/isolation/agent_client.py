"""What may be asked of a sandbox's agent: programs, terminals, files, pipes, sockets inside.

Code inside may have taken it over: an answer that is not what was asked for ends the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FileProblem, SandboxGone
from .control_socket import Answer, Control, close_all
from .descriptors import (
    is_readable_file,
    is_stream_socket,
    is_terminal,
    is_writable_file,
    own_descriptions,
)
from .loop_guard import Received
from .streams import read_all

ODD_ANSWER = "the sandbox answered with something else than what was asked for"
LARGEST_ANSWER = 8 * 1024 * 1024  # the agent's own bound for a file operation's JSON, in bytes
MOST_VALUES = 500_000  # in it: an agent that is not ours could make each of three bytes an object
FILE_TIMEOUT_S = 120.0
Limits = Mapping[str, int]  # of each process, in the agent's words


@dataclass
class RunningProgram:
    """A process inside.

    `pid` is the sandbox's own number for it; `exited` holds its exit code, or minus the signal.
    """

    key: str
    pid: int
    exited: asyncio.Future[int]


class AgentClient:
    """The server's side of one agent.

    `limits` says what each program gets now; `end` ends the sandbox for a reason, which is what
    `why_ended` tells afterwards; `on_close` is told once, when the conversation is over.
    """

    def __init__(
        self,
        control: socket.socket,
        *,
        received: Received,
        limits: Callable[[], Limits],
        end: Callable[[str], None],
        why_ended: Callable[[], str | None],
        on_close: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._end = end
        self._why_ended = why_ended
        self._tell_close = on_close
        self._exits: dict[str, asyncio.Future[int]] = {}
        self._control = Control(
            control, received=received, on_exit=self._on_exit, on_close=self._on_close
        )

    @property
    def is_open(self) -> bool:
        return self._control.is_open

    @property
    def ready(self) -> asyncio.Future[None]:
        """Done when the agent has said that it is; fails with SandboxGone."""
        return self._control.ready

    def close(self, reason: str = "the sandbox was stopped") -> None:
        """End the conversation: the kernel ends the sandbox with it."""
        self._control.close(reason)

    def _on_exit(self, key: str, code: int) -> None:
        future = self._exits.pop(key, None)
        if future is not None and not future.done():
            future.set_result(code)

    def _on_close(self) -> None:
        for future in self._exits.values():
            if not future.done():
                future.set_result(-signal.SIGKILL)
        self._exits.clear()
        self._tell_close()

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdio: tuple[int, ...],
        environment: Mapping[str, str],
        cwd: str,
    ) -> RunningProgram:
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
                limits=self._limits(),
            )
            return RunningProgram(key=key, pid=self._number_in(answer, "pid"), exited=exited)
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
        self._end(ODD_ANSWER)
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
        self, running: RunningProgram, number: int = signal.SIGKILL, *, alone: bool = False
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
    ) -> tuple[RunningProgram, int]:
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
                limits=self._limits(),
            )
            master = self._only_descriptor(answer, is_terminal)
            pid = self._number_in(answer, "pid", master)
        except BaseException:
            self._exits.pop(key, None)
            raise
        os.set_blocking(master, False)
        return RunningProgram(key=key, pid=pid, exited=exited), master

    async def dial(self, host: str, port: int) -> socket.socket:
        """A socket that begins to connect to a port inside; raises FileProblem, SandboxGone."""
        return await self._stream_socket("connect", host, port)

    async def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens inside and is accepted from here.

        Raises FileProblem when the port is taken.
        """
        found = await self._stream_socket("listen", host, port)
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise self._breach([found.detach()])
        return found

    async def _stream_socket(self, op: str, host: str, port: int) -> socket.socket:
        answer = await self._control.request(op, host=host, port=port)
        found = socket.socket(fileno=self._only_descriptor(answer, is_stream_socket))
        found.setblocking(False)
        return found

    async def files(self, action: str, **values: Any) -> Any:
        """Run a file operation inside; its JSON value, unchecked. Raises FileProblem."""
        key, _ = self._expect_exit()
        read_end, write_end = os.pipe()
        try:
            limits = self._limits()
            await self._ask("files", (write_end,), key=key, action=action, limits=limits, **values)
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        data = await read_all(read_end, limit=LARGEST_ANSWER + 1, timeout_s=FILE_TIMEOUT_S)
        if not data and not self.is_open:
            raise SandboxGone(self._why_ended() or "the sandbox was stopped")
        return await asyncio.to_thread(_file_value, data)


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
