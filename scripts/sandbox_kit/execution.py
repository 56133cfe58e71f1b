"""One command or piece of code in a sandbox: uploaded as files, run with a closed stdin, streams apart, a deadline, partial output kept.

It runs in a session of its own, because sessions split and stream the output and `delete_session` kills the whole tree. Sessions
take no variables, so these travel in a file beside the script and show in no command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .failures import Failure
from .output import Narrator
from .sdk import Handle

KEEP_AWAKE_S = 300.0
FOLLOW_TRIES = 4
USEFUL_CONNECTION_S = 10.0  # proxies cut long streams after minutes; one that lasted so long is worth opening again
RECONNECT_PAUSE_S = 0.2
WORTH_RECONNECTING = ("network", "server_error")
POLL_S = (0.1, 0.2, 0.5, 1.0, 2.0)
LATE_OUTPUT_S = 2.0  # after a kill, for what the server still has

# In a subshell, because a bare `exit` would end the session; a server that swallowed the upload must not look like a program's failure.
START = "(test -r {folder}/launch || exit 125; exec sh {folder}/launch)"
NOT_THERE = 125
LAUNCH = """\
chmod 600 {folder}/*
. {folder}/environment
{run}
"""
RUN_COMMAND = """\
command -v bash >/dev/null 2>&1 && exec bash {folder}/script </dev/null
exec sh {folder}/script </dev/null
"""
# The working directory is an import root, as in `python3 -c`, and tracebacks still show a file's lines.
RUN_CODE = {
    "python": 'PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}" exec python3 -u {folder}/snippet.py </dev/null\n',
    "javascript": "exec node - <{folder}/snippet.js\n",
    "typescript": "exec npx ts-node -T {folder}/snippet.ts </dev/null\n",
}
# Not code.py: its folder comes first on the import path, and `code` is a module of the standard library.
SNIPPET = {"python": "snippet.py", "javascript": "snippet.js", "typescript": "snippet.ts"}


@dataclass(frozen=True)
class Program:
    """What to run: a bash script, or source code in `language`."""

    text: str
    language: str | None = None

    def files(self, folder: str, env: Mapping[str, str]) -> dict[str, bytes]:
        """Everything that is uploaded for it, by path inside."""
        if self.language is None:
            name, run = "script", RUN_COMMAND
        else:
            name, run = SNIPPET[self.language], RUN_CODE[self.language]
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
        launch = LAUNCH.format(folder=folder, run=run.format(folder=folder))
        texts = {name: self.text, "environment": exports, "launch": launch}
        return {f"{folder}/{key}": text.encode("utf-8", "surrogateescape") for key, text in texts.items()}


@dataclass(frozen=True)
class Ended:
    """How it ended: `exit_code` is None after a timeout."""

    exit_code: int | None
    timed_out: bool
    seconds: float


@dataclass
class Follower:
    """Passes both streams on, skipping what an earlier connection already brought: the server replays them from the start."""

    out: Callable[[str], None]
    err: Callable[[str], None]
    seen_out: int = 0
    seen_err: int = 0
    failure: Failure | None = None  # of our own side: the SDK would hand it back as one of its errors

    @property
    def seen_any(self) -> bool:
        return bool(self.seen_out or self.seen_err)

    def _pass(self, write: Callable[[str], None], text: str) -> None:
        try:
            write(text)
        except Exception as error:
            self.failure = error if isinstance(error, Failure) else Failure("internal", f"the output could not be passed on: {error}")
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


async def run(
    handle: Handle,
    program: Program,
    *,
    run_id: str,
    env: Mapping[str, str],
    timeout_s: int,
    follower: Follower,
    narrator: Narrator,
    tidy: bool,
) -> Ended:
    """Run to the end or the deadline; raises Failure. `tidy` removes what was uploaded, for a sandbox that lives on."""
    folder, session = f"/tmp/daytona-sandbox-{run_id}", f"run-{run_id}"
    await handle.make_private_folder(folder)
    try:
        await handle.upload(program.files(folder, env))
        await handle.create_session(session)
        began = time.monotonic()
        command = await handle.start_command(session, START.format(folder=folder))
        awake = asyncio.create_task(keep_awake(handle, narrator))
        try:
            code = await with_deadline(handle, session, command, follower=follower, timeout_s=timeout_s)
        finally:
            awake.cancel()
        if code == NOT_THERE and not follower.seen_any and not await handle.has_file(f"{folder}/launch"):
            raise Failure("exec_failed", "the server accepted the program, but it is not in the sandbox")
        return Ended(exit_code=code, timed_out=code is None, seconds=time.monotonic() - began)
    except asyncio.CancelledError:
        if tidy:  # a signal ends the program too; a sandbox that is about to be deleted needs no request for that
            await quietly(handle.delete_session(session))
        raise
    finally:
        if tidy:
            await quietly(handle.remove_folder(folder))


async def with_deadline(handle: Handle, session: str, command: str, *, follower: Follower, timeout_s: int) -> int | None:
    """The exit code; None when the deadline passed and everything was killed."""
    waiting = asyncio.ensure_future(to_the_end(handle, session, command, follower))
    try:
        return await asyncio.wait_for(asyncio.shield(waiting), timeout_s)
    except asyncio.TimeoutError:
        await quietly(handle.delete_session(session))
        await asyncio.wait((waiting,), timeout=LATE_OUTPUT_S)
        return None
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Failure):
            await waiting


async def to_the_end(handle: Handle, session: str, command: str, follower: Follower) -> int:
    """Follow the output, connecting again whenever the stream breaks; when it brings nothing time after time, poll instead."""
    in_vain = 0
    while in_vain < FOLLOW_TRIES:
        seen, began = (follower.seen_out, follower.seen_err), time.monotonic()
        try:
            await handle.follow(session, command, *follower.fresh())
        except Failure as failure:
            if follower.failure is not None:
                raise follower.failure from None
            if failure.kind not in WORTH_RECONNECTING:
                break
        else:
            code = await wait_for_exit(handle, session, command)
            if code is not None:
                return code
        useful = seen != (follower.seen_out, follower.seen_err) or time.monotonic() - began > USEFUL_CONNECTION_S
        in_vain = 0 if useful else in_vain + 1
        await asyncio.sleep(RECONNECT_PAUSE_S)
    return await poll(handle, session, command, follower)


async def wait_for_exit(handle: Handle, session: str, command: str) -> int | None:
    """The exit code soon after the stream ended; None when the command goes on, so the stream only broke politely."""
    for pause in POLL_S:
        code = await handle.exit_code(session, command)
        if code is not None:
            return code
        await asyncio.sleep(pause)
    return None


async def poll(handle: Handle, session: str, command: str, follower: Follower) -> int:
    """Where WebSockets do not get through: ask for the whole log, ever less often."""
    pauses = list(POLL_S)
    while True:
        code = await handle.exit_code(session, command)
        on_out, on_err = follower.fresh()
        out, err = await handle.logs(session, command)
        on_out(out)
        on_err(err)
        if code is not None:
            return code
        await asyncio.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])


async def keep_awake(handle: Handle, narrator: Narrator) -> None:
    """A program that prints nothing for long must not be stopped as idle."""
    while True:
        await asyncio.sleep(KEEP_AWAKE_S)
        try:
            await handle.refresh_activity()
        except Failure as failure:
            narrator.say(f"could not refresh the sandbox's activity: {failure.message}")


async def quietly(work: Awaitable[None]) -> None:
    """Tidying that may fail: the sandbox can be gone already."""
    with contextlib.suppress(Failure):
        await work
