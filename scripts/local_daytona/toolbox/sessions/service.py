"""Sessions: a long-lived shell, and the commands that run in it one after another, with their logs.

PROTOCOL.md, "Sessions", has the real daemon's ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import ApiError, FileProblem, SandboxGone
from ...http_json import BAD_BODY, DAEMON
from ...isolation.agent_client import RunningProgram
from ...isolation.spawning import spawn
from ...isolation.streams import chunks, feed, read_all
from ...long_answers import decoded
from ..shell import shell
from .log import LONGEST_LINE, STDERR, STDOUT, Log, split

if TYPE_CHECKING:
    from ..toolbox import Toolbox

RUN_FOLDER = "/run/sessions"  # inside, on a tmpfs of its own; scripts and FIFOs of the commands
KILL_GRACE_S = 1.0
END_GRACE_S, END_LOOK_S = 5.0, 0.05  # for what a deleted session started, to end by SIGTERM
INPUT_TIMEOUT_S = 5.0
SETTLE_S = 0.1  # for what a shell wrote just before it ended
ENTRYPOINT = "entrypoint"
SESSION_ID = re.compile(r"[^\x00]{1,1000}")
# In the daemon's shell it waits for the wrapper's own children too, for ever.
NO_BARE_WAIT = (
    'wait() {{ if [ $# -gt 0 ]; then {builtin} wait "$@"; else echo \'wait: without a process it'
    " never ends in a session of Daytona: name what to wait for' >&2; return 1; fi; }}\n"
)
TYPED_LOG_LIMIT = 16 * 1024 * 1024  # bytes of a log that one JSON answer may hold


@dataclass
class Command:
    """One command of a session.

    `exit_code` is None while it runs; `ended` is set once its log is complete too.
    """

    id: str
    text: str
    log: Log
    stdin: int | None
    echo: bool
    exit_code: int | None = None
    lost: bool = False  # the shell ended before it could report an exit code
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        """Without exitCode while it runs: the SDK takes its absence for that."""
        found = {"id": self.id, "command": self.text}
        return found if self.exit_code is None else {**found, "exitCode": self.exit_code}


class Session:
    """One shell and its commands, in order."""

    def __init__(self, toolbox: Toolbox, session_id: str) -> None:
        self.id = session_id
        self.commands: dict[str, Command] = {}
        self._toolbox = toolbox
        self._folder = f"{RUN_FOLDER}/{uuid.uuid4().hex}"
        self._running: RunningProgram
        self._stdin = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self.over = False
        self._deleted = False

    async def open(self) -> None:
        """Start the shell; raises FileProblem or SandboxGone."""
        program = await spawn(
            self._toolbox.agent,
            [shell()],
            environment=self._toolbox.environment({}),
            cwd=self._toolbox.work_dir,
            stdin=True,
        )
        self._running, self._stdin = program.running, program.stdin
        os.set_blocking(self._stdin, False)
        self._background(self._watch())
        builtin = "command" if shell().endswith("/sh") else "builtin"
        await feed(os.dup(self._stdin), NO_BARE_WAIT.format(builtin=builtin).encode())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Note when the shell ends by itself (a bare `exit`): no command can follow then."""
        await self._running.exited
        self.over = True

    async def run(self, text: str, *, wait: bool, echo: bool) -> Command:
        """Queue a command behind those that run; sourced, so that cd and export persist."""
        if self.over:
            raise session_ended()
        command_id = str(uuid.uuid4())
        folder = f"{self._folder}/{command_id}"
        writers = [] if wait else ["in"]
        fds = await self._toolbox.agent.fifos(
            folder, readers=["out", "err", "code"], writers=writers
        )
        try:
            await self._toolbox.write_file(f"{folder}/script", text.encode())
            if self.over:  # it was deleted meanwhile
                raise session_ended()
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        out, err, code, *stdin = fds
        log = Log(self._toolbox.sandbox.folders.logs / f"{command_id}.log")
        command = Command(
            id=command_id, text=text, log=log, stdin=stdin[0] if stdin else None, echo=echo
        )
        self.commands[command_id] = command
        self._background(self._follow(command, folder, out=out, err=err, code=code))
        await self._type(folder, has_stdin=not wait)
        return command

    async def _type(self, folder: str, *, has_stdin: bool) -> None:
        stdin = f"{folder}/in" if has_stdin else "/dev/null"
        place = shlex.quote(folder)
        # In a plain sh, a bad script that is sourced by a bare `.` would end the shell.
        dot = "command ." if shell().endswith("/sh") else "."
        source = f"{{ {dot} {place}/script; }} <{stdin} >{place}/out 2>{place}/err"
        # As the daemon's wrapper does before each command: its variables, and signals that would
        # end the shell.
        source = (
            f"trap : HUP INT TERM; dir={place} log={place}/output.log sp={place}/out"
            f" ep={place}/err ip={place}/in ip_pid=$$; {source}"
        )
        await feed(os.dup(self._stdin), f"{source}; echo $? >{place}/code\n".encode())

    async def _follow(
        self, command: Command, folder: str, *, out: int, err: int, code: int
    ) -> None:
        """Pump both streams into the log and read the exit code, until the shell's end at most."""
        pumps = asyncio.gather(pump(command.log, STDOUT, out), pump(command.log, STDERR, err))
        answer = asyncio.create_task(read_all(code, limit=64))
        shell_ended = asyncio.ensure_future(asyncio.shield(self._running.exited))
        try:
            await asyncio.wait((answer, shell_ended), return_when=asyncio.FIRST_COMPLETED)
            # A shell that ended may leave children that hold the output; one that answered has
            # closed its own ends.
            patience = None if answer.done() else KILL_GRACE_S
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(pumps), patience)
            await asyncio.wait((answer,), timeout=SETTLE_S)
            command.exit_code = exit_code(answer)
        finally:
            for waiting in (pumps, answer, shell_ended):
                waiting.cancel()
            await asyncio.gather(pumps, answer, return_exceptions=True)
            await self._end(command, folder)

    async def _end(self, command: Command, folder: str) -> None:
        if command.stdin is not None:
            os.close(command.stdin)
            command.stdin = None
        command.lost = command.exit_code is None  # also where this was cancelled: the session goes
        command.ended.set()
        await command.log.finish()
        with contextlib.suppress(FileProblem, SandboxGone):
            await self._toolbox.agent.files("delete", path=folder, recursive=True)

    async def wait(self, command: Command) -> None:
        """Until the command and its log are complete.

        Raises the 410 when the shell ended first, the 500 when the session was deleted.
        """
        await command.ended.wait()
        if command.lost and self._deleted:
            raise not_executed("session cancelled")
        if command.lost:
            raise session_ended()

    async def send_input(self, command: Command, data: str) -> None:
        """Text for a running asynchronous command's stdin, with a newline at its end.

        Raises the 410 when it has ended, the 409 when it does not read.
        """
        if command.ended.is_set() or command.stdin is None:
            message, code = "the command takes no more input", "COMMAND_ALREADY_COMPLETED"
            raise ApiError(410, message, code=code, source=DAEMON)
        text = (data if data.endswith("\n") else data + "\n").encode()
        if command.echo:
            await command.log.append_lines(STDOUT, text)
        try:
            await asyncio.wait_for(feed(os.dup(command.stdin), text), INPUT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise ApiError(409, "the command does not read its input", source=DAEMON) from None

    async def close(self) -> None:
        """SIGTERM to all that the shell started, a grace, SIGKILL.

        Every log ends, every stream closes. The shell is stopped meanwhile: it would write into the
        log how its programs ended, and go on with the command.
        """
        self.over = self._deleted = True
        await self._toolbox.agent.kill(self._running, signal.SIGSTOP, alone=True)
        await self._toolbox.agent.kill(self._running, signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_alone(), END_GRACE_S)
        await self._toolbox.agent.kill(self._running, signal.SIGKILL)
        await self.abandon()

    async def _until_alone(self) -> None:
        """Nothing tells when the last of them ends."""
        while True:
            found = await self._toolbox.agent.kill(self._running, 0)
            if found <= (not self._running.exited.done()):
                return
            await asyncio.sleep(END_LOOK_S)

    async def abandon(self) -> None:
        """Let go of everything on the server's side; the caller ends the processes."""
        self.over = True
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for command in self.commands.values():
            command.lost = command.exit_code is None
            command.ended.set()
            await command.log.finish()


class Sessions:
    """The sessions of one toolbox by id."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._sessions: dict[str, Session] = {}
        self._opening: set[str] = set()

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    async def create(self, session_id: str) -> None:
        """Raises the 409 for a known id, the 400 for what is none, or the entrypoint's."""
        if not SESSION_ID.fullmatch(session_id):
            message = "sessionId must be 1 to 1000 characters"
            raise ApiError(400, message, code=BAD_BODY, source=DAEMON)
        refuse_entrypoint(session_id, "the session ID is reserved and cannot be created")
        await self._create(session_id)

    async def _create(self, session_id: str) -> None:
        if session_id in self._sessions or session_id in self._opening:
            message = f"session {session_id} already exists"
            raise ApiError(409, message, code="CONFLICT", source=DAEMON)
        session = Session(self._toolbox, session_id)
        self._opening.add(session_id)
        try:
            await session.open()
        finally:
            self._opening.discard(session_id)
        if self._toolbox.closing.is_set():
            await session.abandon()
            raise SandboxGone("the sandbox was stopped")
        self._sessions[session_id] = session

    async def run_entrypoint(self, argv: Sequence[str]) -> None:
        """The snapshot's own program, in a session of its own.

        One that cannot start is no reason to have no sandbox.
        """
        with contextlib.suppress(FileProblem, SandboxGone):
            await self._create(ENTRYPOINT)
            await self.find(ENTRYPOINT).run(shlex.join(argv), wait=False, echo=False)

    def entrypoint(self) -> Command | None:
        """None where the snapshot has no program of its own."""
        session = self._sessions.get(ENTRYPOINT)
        return next(iter(session.commands.values()), None) if session else None

    def find(self, session_id: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            message = f"session {session_id} not found"
            raise ApiError(404, message, code="PROCESS_NOT_FOUND", source=DAEMON)
        return session

    def find_command(self, session_id: str, command_id: str) -> tuple[Session, Command]:
        session = self.find(session_id)
        command = session.commands.get(command_id)
        if command is None:
            message = f"command {command_id} not found"
            raise ApiError(404, message, code="PROCESS_NOT_FOUND", source=DAEMON)
        return session, command

    def to_run_in(self, session_id: str) -> Session:
        """Raises the 400 for the entrypoint's, the 500 for an unknown one, as the daemon does."""
        refuse_entrypoint(session_id, "can't execute command in entrypoint session")
        if session_id not in self._sessions:
            raise not_executed("session not found")
        return self._sessions[session_id]

    async def delete(self, session_id: str) -> None:
        refuse_entrypoint(session_id, "can't delete entrypoint session")
        session = self.find(session_id)
        del self._sessions[session_id]
        await session.close()

    async def close(self) -> None:
        """All of them, at once: the sandbox ends their processes anyway."""
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.abandon() for session in sessions))


async def pump(log: Log, marker: bytes, fd: int) -> None:
    """Pass a stream on line by line; a last line without a newline gains one, as the daemon's."""
    rest = b""
    async for chunk in chunks(fd):
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > LONGEST_LINE:
            cut = len(data)
        await log.append_lines(marker, data[:cut])
        rest = data[cut:]
    if rest:
        await log.append_lines(marker, rest + b"\n")


def exit_code(answer: asyncio.Task[bytes]) -> int | None:
    """What the shell wrote as the command's exit code.

    None when it ended before it could, or wrote something else.
    """
    text = answer.result().strip() if answer.done() else b""
    return int(text) if text.isdigit() and len(text) < 4 else None


def refuse_entrypoint(session_id: str, why: str) -> None:
    """The snapshot's own program is no session of the client's; raises the 400."""
    if session_id == ENTRYPOINT:
        raise ApiError(400, f"bad request: {why}", source=DAEMON)


def not_executed(why: str) -> ApiError:
    return ApiError(500, f"failed to execute command: {why}", source=DAEMON)


def session_ended() -> ApiError:
    return ApiError(410, "the session's shell has ended", code="SESSION_ENDED", source=DAEMON)


def logs_json(command: Command) -> dict[str, str]:
    """In a thread: SessionCommandLogsResponse, the raw framed log and its two streams."""
    framed = command.log.read(TYPED_LOG_LIMIT)
    out, err = split(framed)
    parts = {"output": framed, "stdout": out, "stderr": err}
    return {name: decoded(data) for name, data in parts.items()}
