"""Terminals: shells on a pseudo-terminal that outlive their clients (PROTOCOL.md, "Terminals")."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import struct
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ApiError, FileProblem, iso, now
from ...http_json import DAEMON, Fields
from ...isolation.agent_client import RunningProgram
from ...isolation.streams import feed, readable
from ..channel import Channel, first_of
from ..shell import shell

if TYPE_CHECKING:
    from ..toolbox import Toolbox

TERM = "xterm-256color"
TERMINAL_ID = re.compile(r"[^/\x00]{1,200}")
KILLED, NOT_ZERO = -1, "non-zero exit"
LARGEST_INPUT = 64 * 1024  # bytes of one message: more ends the connection
MOST_CELLS = 1000
READ_SIZE = 16 * 1024
# Bytes read after the shell's end, which children that hold the terminal may go on producing.
LAST_WORDS = 64 * READ_SIZE
# A program that does not read for so long loses what is typed: a client's pings must be answered.
INPUT_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Size:
    """In character cells."""

    cols: int
    rows: int

    @classmethod
    def wanted(cls, fields: Fields) -> Size:
        """As asked for, 80x24 where nothing is."""
        return cls(cells(fields, "cols", 80), cells(fields, "rows", 24))

    @classmethod
    def changed(cls, fields: Fields) -> Size:
        """What is left out is 0, as the daemon has it."""
        return cls(cells(fields, "cols", 0), cells(fields, "rows", 0))

    def apply(self, master: int) -> None:
        """The kernel tells the programs on the terminal."""
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.cols, 0, 0))


def cells(fields: Fields, name: str, default: int) -> int:
    found = fields.integer(name, default)
    if found > MOST_CELLS:
        message = f"invalid value for {name} - must be at most {MOST_CELLS}"
        raise ApiError(400, message, source=DAEMON)
    return found


@dataclass(frozen=True)
class End:
    """How a terminal ended: the shell's exit code, None when the whole sandbox did."""

    exit_code: int | None
    reason: str = ""

    @classmethod
    def of(cls, code: int) -> End:
        """From an exit code, or minus a signal, which the daemon does not tell."""
        return cls(code if code >= 0 else KILLED, NOT_ZERO if code else "")

    def as_json(self) -> dict[str, Any]:
        return {"exitCode": self.exit_code, **({"exitReason": self.reason} if self.reason else {})}


class Terminal:
    """One shell on its terminal; its output goes to who is attached, and without any is dropped."""

    def __init__(
        self,
        toolbox: Toolbox,
        terminal_id: str,
        *,
        size: Size,
        cwd: str,
        envs: Mapping[str, str],
        lazy: bool,
    ) -> None:
        self.id = terminal_id
        self.size = size
        self.cwd = cwd
        self.envs = {"TERM": TERM, **envs}
        self.lazy = lazy
        self.created_at = now()
        self.clients: set[Channel] = set()
        self.end: End | None = None
        self.ended = asyncio.Event()
        self._toolbox = toolbox
        self._environment = toolbox.environment(self.envs, any_name=True)
        self._starting = asyncio.Lock()
        self._typing = asyncio.Lock()
        self._running: RunningProgram | None = None
        self._master = -1
        self._life: asyncio.Task[None] | None = None

    def as_json(self) -> dict[str, Any]:
        """PtySessionInfo; `active` once the shell runs."""
        return {
            "id": self.id,
            "cwd": self.cwd,
            "envs": self.envs,
            "cols": self.size.cols,
            "rows": self.size.rows,
            "createdAt": iso(self.created_at),
            "active": self._running is not None,
            "lazyStart": self.lazy,
        }

    async def start(self) -> None:
        """Start the shell, once; nothing is read of it before follow().

        Raises the 500 when it cannot start there.
        """
        async with self._starting:
            if self._running is not None:
                return
            if self.end is not None:
                raise not_found(self.id)
            try:
                self._running, self._master = await self._toolbox.agent.terminal(
                    [shell(), "-i", "-l"], environment=self._environment, cwd=self.cwd
                )
            except FileProblem as error:
                message = f"failed to start PTY session in {self.cwd}: {error.strerror}"
                raise ApiError(500, message, source=DAEMON) from None
            self.size.apply(self._master)

    def follow(self) -> None:
        """From now on its output is read, and its end is noticed."""
        if self._life is None and self._running is not None:
            self._life = asyncio.create_task(self._live(self._running))

    async def _live(self, running: RunningProgram) -> None:
        """Pass the output on until the shell ends and all that it wrote is passed on."""
        left = LAST_WORDS
        while left > 0:
            chunk = self._read()
            if chunk:
                await asyncio.gather(*(client.send(chunk) for client in list(self.clients)))
                left -= len(chunk) if running.exited.done() else 0
            elif chunk is None and not running.exited.done():
                await first_of(
                    asyncio.ensure_future(readable(self._master)),
                    asyncio.ensure_future(asyncio.shield(running.exited)),
                )
            else:
                break
        self._finish(End.of(await asyncio.shield(running.exited)))

    def _read(self) -> bytes | None:
        """None: nothing yet. b"": never again, for no program has the terminal open."""
        try:
            return os.read(self._master, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    async def type(self, data: bytes) -> None:
        """As from a keyboard; what the program does not take is lost, as on a real terminal."""
        async with self._typing:
            if self._master >= 0:
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    await asyncio.wait_for(feed(os.dup(self._master), data), INPUT_TIMEOUT_S)

    def resize(self, size: Size) -> None:
        """Raises the 500 before its start."""
        if self._running is None:
            raise ApiError(500, f"PTY session {self.id} has not started", source=DAEMON)
        self.size = size
        if self._master >= 0:
            size.apply(self._master)

    async def kill(self) -> None:
        """End the shell and all that it started; raises the 409 when they do not end in time."""
        async with self._starting:
            if self._running is None:
                self._finish(End.of(-signal.SIGKILL))
                return
        await self._toolbox.agent.kill(self._running, signal.SIGKILL)
        try:
            await asyncio.wait_for(self.ended.wait(), KILL_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise ApiError(409, f"terminal {self.id} does not end", source=DAEMON) from None

    async def abandon(self) -> None:
        """Let go of everything on the server's side; the caller ends the processes."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        async with self._starting:
            if self.end is None:
                self._finish(End(None, "the sandbox was stopped"))

    def _finish(self, end: End) -> None:
        """Closing the terminal hangs up on whatever still has it open."""
        self.end = end
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        self._toolbox.terminals.forget(self)
        self.ended.set()


class Terminals:
    """The terminals of one toolbox by id, until they end."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._terminals: dict[str, Terminal] = {}

    def __iter__(self) -> Iterator[Terminal]:
        return iter(list(self._terminals.values()))

    def add(self, fields: Fields, *, cwd: str, envs: Mapping[str, str]) -> Terminal:
        """A terminal that has not started; raises the 400 or, for a taken id, the 409."""
        terminal_id = fields.text("id", "")
        if not TERMINAL_ID.fullmatch(terminal_id):
            message = "id is required, without slashes and at most 200 characters"
            raise ApiError(400, message, source=DAEMON)
        if terminal_id in self._terminals:
            raise ApiError(409, f"PTY session {terminal_id} already exists", source=DAEMON)
        lazy = fields.boolean("lazyStart")
        terminal = Terminal(
            self._toolbox, terminal_id, size=Size.wanted(fields), cwd=cwd, envs=envs, lazy=lazy
        )
        self._terminals[terminal_id] = terminal
        return terminal

    def find(self, terminal_id: str) -> Terminal:
        terminal = self._terminals.get(terminal_id)
        if terminal is None:
            raise not_found(terminal_id)
        return terminal

    def has(self, terminal_id: str) -> bool:
        return terminal_id in self._terminals

    def forget(self, terminal: Terminal) -> None:
        if self._terminals.get(terminal.id) is terminal:
            del self._terminals[terminal.id]

    async def start(self, terminal: Terminal) -> None:
        """Start a new one; it is not there when that fails."""
        try:
            await terminal.start()
        except BaseException:
            self.forget(terminal)
            raise

    async def close(self) -> None:
        await asyncio.gather(*(terminal.abandon() for terminal in self))


def not_found(terminal_id: str) -> ApiError:
    return ApiError(404, f"PTY session {terminal_id} not found", source=DAEMON)
