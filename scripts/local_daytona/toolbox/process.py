"""exec and code_run: one program, its merged output and its exit code, as the real daemon's.

PROTOCOL.md, "exec and code_run", says what those are.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from ..errors import ApiError, FileProblem
from ..http_json import BAD_BODY, DAEMON, Fields
from ..isolation.agent_client import RunningProgram
from ..isolation.spawning import MERGED, spawn
from ..isolation.streams import feed, read_all
from ..long_answers import answer_long, decoded
from . import charts
from .shell import shell
from .toolbox import Toolbox, inside

# The answer is one JSON string held in memory, up to six times as long; more is dropped.
OUTPUT_LIMIT = 32 * 1024 * 1024
INTERPRETERS = {"python": ("python3", "-u", "-"), "javascript": ("node", "-")}
# On the code's own first line, whose number a stack trace shows.
WITHOUT_DASH = "process.argv.splice(1, 1); "
COULD_NOT_START = -1
LONGEST_TIMEOUT_S = 2**32 - 1
LONGEST_WAIT_S = 366 * 24 * 3600  # an event loop's clock takes no more


@dataclass(frozen=True)
class Ended:
    """The exit code and the merged output.

    The code is as the daemon's: -1 for what could not start, or was killed by a signal.
    """

    exit_code: int
    output: str
    signal: int = 0  # that killed it

    @property
    def code_of_a_shell(self) -> int:
        """As a shell that waited for it would tell: 128 and the signal."""
        return 128 + self.signal if self.signal else self.exit_code


async def execute(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """POST /process/execute: the command is fed to a bare shell on its stdin."""
    fields = await Fields.of_body(request)
    command = fields.text("command")
    if not command.strip():
        raise ApiError(400, "command is required", source=DAEMON)
    cwd = toolbox.absolute(fields.text("cwd", "") or toolbox.work_dir)
    ended = await run(
        toolbox,
        [shell()],
        script=command.encode(),
        env=fields.texts("envs"),
        cwd=cwd,
        timeout_s=fields.integer("timeout", 0, most=LONGEST_TIMEOUT_S),
    )
    return await answer_long(request, {"exitCode": ended.exit_code, "result": ended.output})


async def code_run(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """POST /process/code-run: a fresh interpreter that reads the code from its stdin.

    Its matplotlib figures come back as charts.
    """
    fields = await Fields.of_body(request)
    language, source = fields.text("language", ""), fields.text("code", "")
    if not language or not source:
        raise ApiError(400, "code and language are required", code=BAD_BODY, source=DAEMON)
    interpreter = INTERPRETERS.get(language)
    if interpreter is None:
        runs = f"local Daytona runs {' and '.join(INTERPRETERS)}, not {language}"
        raise ApiError(400, f"{runs}; compile it first, or use the cloud", source=DAEMON)
    code = (WITHOUT_DASH if language == "javascript" else "") + source
    if language == "python" and charts.draws(code):
        interpreter = charts.RUNNER
    # As the daemon does: a blank parts arguments, and a shell reads what they hold.
    line = " ".join([*interpreter, *fields.list_of_texts("argv")])
    ended = await run(
        toolbox,
        [shell(), "-c", line],
        script=code.encode(),
        env=fields.texts("envs"),
        cwd=toolbox.work_dir,
        timeout_s=fields.integer("timeout", 0),
    )
    result, found = await asyncio.to_thread(charts.extracted, ended.output)
    return await answer_long(
        request,
        {"exitCode": ended.code_of_a_shell, "result": result, "artifacts": {"charts": found}},
    )


async def run(
    toolbox: Toolbox,
    argv: Sequence[str],
    *,
    script: bytes,
    env: Mapping[str, str],
    cwd: str,
    timeout_s: int,
) -> Ended:
    """Run until nobody holds the output any more.

    Raises the 408 after `timeout_s` (0: never), with everything killed.
    """
    environment = toolbox.environment(env)
    try:
        async with inside(cwd):
            program = await spawn(
                toolbox.agent,
                argv,
                environment=environment,
                cwd=cwd,
                stdin=True,
                outputs=MERGED,
            )
    except ApiError as error:
        if isinstance(error.__context__, FileProblem):
            reason = error.__context__.strerror or "failed"
            return Ended(COULD_NOT_START, f"fork/exec {argv[0]}: {reason[:1].lower()}{reason[1:]}")
        raise
    feeder = asyncio.create_task(feed(program.stdin, script))
    try:
        (out,) = program.outputs
        return await collect(toolbox, program.running, out, timeout_s=timeout_s)
    finally:
        feeder.cancel()


def shown(output: bytes) -> str:
    """In a thread: as text, cut with a notice where it is too long for one answer."""
    text = decoded(output[:OUTPUT_LIMIT])
    if len(output) <= OUTPUT_LIMIT:
        return text
    return f"{text}\n[local Daytona kept the first {OUTPUT_LIMIT >> 20} MiB of this output]\n"


async def collect(toolbox: Toolbox, running: RunningProgram, out: int, *, timeout_s: int) -> Ended:
    reader = asyncio.create_task(read_all(out, limit=OUTPUT_LIMIT + 1))
    # A program may close its output and run on: the timeout is for both.
    ending = asyncio.gather(reader, asyncio.shield(running.exited))
    try:
        output, code = await asyncio.wait_for(ending, min(timeout_s, LONGEST_WAIT_S) or None)
    except asyncio.TimeoutError:
        await toolbox.agent.kill(running, signal.SIGKILL)
        message, reason = "request timeout: command execution timeout", "PROCESS_EXECUTION_TIMEOUT"
        raise ApiError(408, message, code=reason, source=DAEMON) from None
    finally:
        reader.cancel()
    if not toolbox.sandbox.is_running:
        reason = toolbox.sandbox.ended_because or "the sandbox was stopped while the command ran"
        raise ApiError(410, reason, source=DAEMON)
    text = await asyncio.to_thread(shown, output)
    return Ended(code, text) if code >= 0 else Ended(COULD_NOT_START, text, signal=-code)
