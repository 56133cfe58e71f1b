"""Commands and code in a sandbox: uploaded as files, run until a deadline, partial output kept.

Their stdin is closed, their streams stay apart. They run in a session of their own, because
sessions split and stream the output and `delete_session` kills the whole tree. Sessions take no
variables, so these travel in a file beside the script and show in no command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import re
import shlex
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .charts import IMPORT_PATH, chart_files
from .errors import Failure
from .languages import find_language
from .request import Program
from .sdk import Sandbox, SessionCommand
from .status_log import StatusLog

KEEP_AWAKE_S = 300.0
FOLLOW_TRIES = 4
# Proxies cut long streams after minutes; one that lasted so long is worth opening again.
USEFUL_CONNECTION_S = 10.0
RECONNECT_PAUSE_S = 0.2
WORTH_RECONNECTING = ("network", "server_error")
POLL_S = (0.1, 0.2, 0.5, 1.0, 2.0)
LAST_LOOK_S = 5.0  # for the exit code, before a timeout is told
LAST_OUTPUT_S = 30.0  # of a program that ended in time, when our clock did not
TIDY_LIMIT_S = 15.0
LATE_OUTPUT_S = 2.0  # after a kill, for what the server still has
# In a subshell, because a bare `exit` would end the session; a server that swallowed the upload
# must not look like a program's failure.
START = "(test -r {folder}/launch-{number} || exit 125; exec sh {folder}/launch-{number})"
# Also notes its first process and who listened before, and marks all that it starts.
START_LASTING = (
    "(test -r {folder}/launch-{number} || exit 125;"
    " cat /proc/net/tcp /proc/net/tcp6 >{folder}/listening-{number} 2>/dev/null;"
    " export {mark};"
    " exec sh -c 'echo $$ >{folder}/pid-{number}; exec sh {folder}/launch-{number}')"
)
MARK = "DAYTONA_SANDBOX_JOB"
NOT_THERE = 125
STEPS, LASTING = "run-", "job-"  # how the names of our sessions begin, before the run's id
NUMBER = re.compile(r"/launch-(\d+)")
LAUNCH = """\
chmod -R go= {folder}
. {folder}/environment
{at}{cd}{import_path}set -- {arguments}
{run}
"""
# In its own place, where the upload brought this very file: beside its siblings. `cmp` because an
# upload leaves out what is ignored, and an older sandbox may have another file there.
IN_PLACE = """\
if cmp -s {folder}/{name} {place}; then
{run}fi
"""
RUN_COMMAND = """\
command -v bash >/dev/null 2>&1 && exec bash {folder}/{name} "$@" <{stdin}
exec sh {folder}/{name} "$@" <{stdin}
"""


def files_of_program(
    program: Program, *, folder: str, number: int, cwd: str | None
) -> dict[str, bytes]:
    """Everything that is uploaded for program `number` of a run, by path inside."""
    # Not code.py: its folder comes first on the import path, and `code` is of the standard library.
    name, run = f"script-{number}", RUN_COMMAND
    if program.language is not None:
        language = find_language(program.language)
        name = f"snippet{number}{language.suffix}"
        run = language.run if program.stdin is None else language.run_with_stdin
    stdin = "/dev/null" if program.stdin is None else f"{folder}/stdin-{number}"
    line = run.format(folder=folder, name=name, stdin=stdin)
    if program.place is not None:
        line = run_in_place(program, folder=folder, name=name, stdin=stdin) + line
    launch = LAUNCH.format(
        folder=folder,
        at='at="$PWD"\n' if program.place is not None else "",
        arguments=shlex.join(program.arguments),
        cd=f"cd -- {shlex.quote(cwd)} || exit 126\n" if cwd else "",
        import_path=IMPORT_PATH.format(folder=folder) if program.saves_charts else "",
        run=line,
    )
    files = {
        f"{folder}/{name}": encode_text(program.text),
        f"{folder}/launch-{number}": encode_text(launch),
    }
    if program.saves_charts:
        files |= chart_files(folder)
    return files if program.stdin is None else {**files, stdin: program.stdin}


def run_in_place(program: Program, *, folder: str, name: str, stdin: str) -> str:
    """Lines that run the uploaded file itself, if it is there and the same."""
    above, last = posixpath.split(program.place or "")
    # The first folder is not the program's where --cwd is another.
    there = shlex.quote(above) if above.startswith("/") else '"$at"'
    if above and not above.startswith("/"):
        there += f"/{shlex.quote(above)}"
    run = RUN_COMMAND
    if program.language is not None:
        run = find_language(program.language).run_with_stdin
    run = run.format(folder=there, name=shlex.quote(last), stdin=stdin)
    return IN_PLACE.format(folder=folder, name=name, place=f"{there}/{shlex.quote(last)}", run=run)


def encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class ProgramEnd:
    """How it ended: `exit_code` is None after a timeout."""

    exit_code: int | None
    timed_out: bool
    seconds: float


@dataclass(frozen=True)
class LastingProgram:
    """What --detach or --serve started: where it is found, and what tells its processes."""

    session: str
    command: str
    folder: str
    number: int

    @property
    def mark(self) -> str:
        return f"{MARK}={self.session}"

    @property
    def pid_file(self) -> str:
        return f"{self.folder}/pid-{self.number}"

    @property
    def listening_before(self) -> str:
        return f"{self.folder}/listening-{self.number}"


@dataclass
class OutputFollower:
    """Passes both streams on, skipping what an earlier connection already brought.

    The server replays them from the start.
    """

    out: Callable[[str], None]
    err: Callable[[str], None]
    seen_out: int = 0
    seen_err: int = 0
    # Of our own side: the SDK would hand it back as one of its errors.
    failure: Failure | None = None

    @property
    def seen_any(self) -> bool:
        return bool(self.seen_out or self.seen_err)

    def _pass(self, write: Callable[[str], None], text: str) -> None:
        try:
            write(text)
        except Exception as error:
            if not isinstance(error, Failure):
                self.failure = Failure("internal", f"the output could not be passed on: {error}")
            else:
                self.failure = error
            raise

    def fresh(self) -> tuple[Callable[[str], None], Callable[[str], None]]:
        """Callbacks for one more connection."""
        skip = {"out": self.seen_out, "err": self.seen_err}

        def on_out(text: str) -> None:
            new, skip["out"] = text[skip["out"] :], max(0, skip["out"] - len(text))
            self.seen_out += len(new)
            self._pass(self.out, new)

        def on_err(text: str) -> None:
            new, skip["err"] = text[skip["err"] :], max(0, skip["err"] - len(text))
            self.seen_err += len(new)
            self._pass(self.err, new)

        return on_out, on_err


class RemoteRunDir:
    """A private folder in the sandbox with all programs of a run, and their sessions.

    They run in one of them one after another; what outlives the run has another of its own.
    """

    def __init__(
        self, sandbox: Sandbox, status: StatusLog, *, run_id: str, cwd: str | None
    ) -> None:
        self.folder = f"/tmp/daytona-sandbox-{run_id}"
        self.session = f"{STEPS}{run_id}"
        self.lasting_session = f"{LASTING}{run_id}"
        self._sessions: list[str] = []
        self._sandbox = sandbox
        self._status = status
        self._cwd = cwd

    async def prepare(self, programs: Sequence[Program], env: Mapping[str, str]) -> None:
        """Upload everything in one request; raises Failure."""
        await self._sandbox.make_private_folder(self.folder)
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
        files = {f"{self.folder}/environment": encode_text(exports)}
        for number, program in enumerate(programs):
            files |= files_of_program(program, folder=self.folder, number=number, cwd=self._cwd)
        await self._sandbox.upload(files)

    async def start(self, number: int) -> str:
        """Start program `number` in the background; its command id."""
        return await self._start_in(self.session, number)

    async def start_lasting(self, number: int) -> LastingProgram:
        """Start program `number` in a session of its own, by which it is found again."""
        session = self.lasting_session
        command = await self._start_in(session, number, START_LASTING)
        return LastingProgram(session, command, self.folder, number)

    async def _start_in(self, session: str, number: int, line: str = START) -> str:
        if session not in self._sessions:
            self._sessions.append(session)
            await self._sandbox.create_session(session)
        text = line.format(folder=self.folder, number=number, mark=f"{MARK}={session}")
        return await self._sandbox.start_command(session, text)

    async def run(self, number: int, *, timeout_s: int, follower: OutputFollower) -> ProgramEnd:
        """Run program `number` to its end or the deadline; raises Failure."""
        began = time.monotonic()
        command = await self.start(number)
        awake = asyncio.create_task(keep_awake(self._sandbox, self._status))
        try:
            code = await follow_until_deadline(
                self._sandbox, self.session, command, follower=follower, timeout_s=timeout_s
            )
        finally:
            awake.cancel()
        if (
            code == NOT_THERE
            and not follower.seen_any
            and not await self._sandbox.has_file(f"{self.folder}/launch-{number}")
        ):
            raise Failure(
                "exec_failed",
                "the program's file is not in the sandbox: the server lost it,"
                " or the program removed it and ended with 125",
            )
        return ProgramEnd(exit_code=code, timed_out=code is None, seconds=time.monotonic() - began)

    async def end_programs(self) -> None:
        for session in self._sessions:
            await ignore_failure(self._sandbox.delete_session(session))

    async def end_lasting(self) -> None:
        """End what `start_lasting` started; the output of the steps stays."""
        if self.lasting_session in self._sessions:
            await ignore_failure(self._sandbox.delete_session(self.lasting_session))

    async def tidy(self) -> None:
        """Remove what was uploaded, for a sandbox that lives on."""
        await ignore_failure(self._sandbox.remove_folder(self.folder))


def find_program(commands: Iterable[SessionCommand]) -> SessionCommand | None:
    """The program to follow: what --detach or --serve started last, else the last of a run.

    A daemon lists commands in no order; a run's id begins with its time.
    """
    found = [each for each in commands if is_ours(each.session)]
    return max(found, key=order_of_start, default=None)


def is_ours(session: str) -> bool:
    """Whether a run of these scripts made it."""
    return session.startswith((STEPS, LASTING))


def order_of_start(command: SessionCommand) -> tuple[bool, str, int]:
    number = NUMBER.search(command.text)
    kind, _, run_id = command.session.partition("-")
    return kind + "-" == LASTING, run_id, int(number[1]) if number else -1


async def follow_until_deadline(
    sandbox: Sandbox, session: str, command: str, *, follower: OutputFollower, timeout_s: int
) -> int | None:
    """The exit code; None when the deadline passed and everything was killed."""
    waiting = asyncio.ensure_future(follow_to_end(sandbox, session, command, follower))
    try:
        return await asyncio.wait_for(asyncio.shield(waiting), timeout_s)
    except asyncio.TimeoutError:
        code = await exit_code_by_now(sandbox, session, command)
        if code is not None:
            await asyncio.wait((waiting,), timeout=LAST_OUTPUT_S)
            return code
        await ignore_failure(sandbox.delete_session(session))
        await asyncio.wait((waiting,), timeout=LATE_OUTPUT_S)
        return None
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Failure):
            await waiting


async def exit_code_by_now(sandbox: Sandbox, session: str, command: str) -> int | None:
    """Asked before a timeout is told: our own clock ran on while this machine slept.

    None for a program that runs, or when no answer comes; raises Failure when it is not there.
    """
    try:
        return await asyncio.wait_for(sandbox.exit_code(session, command), LAST_LOOK_S)
    except asyncio.TimeoutError:
        return None
    except Failure as failure:
        if failure.kind in WORTH_RECONNECTING:
            return None
        raise


async def follow_to_end(
    sandbox: Sandbox, session: str, command: str, follower: OutputFollower
) -> int:
    """Follow the output, connecting again whenever the stream breaks.

    When it brings nothing time after time, poll instead.
    """
    in_vain = 0
    while in_vain < FOLLOW_TRIES:
        seen, began = (follower.seen_out, follower.seen_err), time.monotonic()
        try:
            await sandbox.follow(session, command, *follower.fresh())
        except Failure as failure:
            if follower.failure is not None:
                raise follower.failure from None
            if failure.kind not in WORTH_RECONNECTING:
                break
        else:
            code = await wait_for_exit_code(sandbox, session, command)
            if code is not None:
                return code
        useful = (
            seen != (follower.seen_out, follower.seen_err)
            or time.monotonic() - began > USEFUL_CONNECTION_S
        )
        in_vain = 0 if useful else in_vain + 1
        await asyncio.sleep(RECONNECT_PAUSE_S)
    return await poll_log(sandbox, session, command, follower)


async def wait_for_exit_code(sandbox: Sandbox, session: str, command: str) -> int | None:
    """The exit code, soon after the stream ended.

    None when the command goes on: then the stream was closed before its end.
    """
    for pause in POLL_S:
        code = await sandbox.exit_code(session, command)
        if code is not None:
            return code
        await asyncio.sleep(pause)
    return None


async def poll_log(sandbox: Sandbox, session: str, command: str, follower: OutputFollower) -> int:
    """Where WebSockets do not get through: ask for the whole log, ever less often."""
    pauses = list(POLL_S)
    while True:
        code = await sandbox.exit_code(session, command)
        on_out, on_err = follower.fresh()
        await sandbox.logs(session, command, on_out, on_err)
        if code is not None:
            return code
        await asyncio.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])


async def keep_awake(sandbox: Sandbox, status: StatusLog) -> None:
    """A program that prints nothing for long must not be stopped as idle."""
    while True:
        await asyncio.sleep(KEEP_AWAKE_S)
        try:
            await sandbox.refresh_activity()
        except Failure as failure:
            status.say(f"could not refresh the sandbox's activity: {failure.message}")


async def ignore_failure(work: Awaitable[None]) -> None:
    """Tidying that may fail or take too long: the sandbox can be gone already."""
    with contextlib.suppress(Failure, asyncio.TimeoutError):
        await asyncio.wait_for(work, TIDY_LIMIT_S)
