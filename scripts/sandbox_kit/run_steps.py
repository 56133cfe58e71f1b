"""What a run does in its sandbox, in order.

Clone, upload, setup, network rule, program, downloads, preview.
"""

from __future__ import annotations

import asyncio
import contextlib

import skill_env

from .archive.packing import PackedUpload
from .charts import SAVED
from .console import CUT, quote_path
from .defaults import SNAPSHOTS, UNPACK_TIMEOUT_S
from .downloads import Downloads
from .errors import Failure
from .missing_modules import Tail, describe_missing_module
from .network_rule import NetworkRule
from .preview import (
    SETTLE_S,
    FirstAnswer,
    PreviewLink,
    look_at_first_page,
    make_preview_link,
    require_alive,
    wait_for_port,
)
from .remote_process import (
    TIDY_LIMIT_S,
    LastingProgram,
    OutputFollower,
    ProgramEnd,
    RemoteRunDir,
)
from .report import PROGRAM, SETUP
from .request import Program, RunRequest
from .run_context import RunContext, RunRecord
from .sdk import Sandbox, SandboxInfo

OUT_OF_MEMORY = 137
LONGEST_COMMAND_SHOWN = 100
LONGEST_REASON = 300  # characters of what a command of ours said


class RunSteps:
    """One run's work in one sandbox; what it comes to goes into the run's report."""

    def __init__(
        self, sandbox: Sandbox, request: RunRequest, context: RunContext, record: RunRecord
    ) -> None:
        self._sandbox = sandbox
        self._request = request
        self._status = context.status
        self._packed = context.packed
        self._report = record.report
        self._output = record.output
        self._dir = RemoteRunDir(
            sandbox, context.status, run_id=record.identity.run_id, cwd=request.cwd
        )
        self._downloads = Downloads(sandbox, request, context, record)
        self._server_command: str | None = None

    async def do(self) -> None:
        """Everything that was asked for; raises Failure.

        A program's own failure is in the report, not raised.
        """
        request = self._request
        await self._clone()
        if self._packed is not None:
            await self._upload(self._packed)
        if request.cwd is not None and not await self._sandbox.has_folder(request.cwd):
            raise Failure(
                "not_found",
                f"--cwd {quote_path(request.cwd)} is no folder in the sandbox",
                fix="--upload or --repo brings it, or leave out --cwd",
            )
        await self._dir.prepare(self._uploaded_programs(), request.env)
        try:
            await self._run_all()
        except asyncio.CancelledError:
            if request.stays:  # one that is about to be deleted needs no request for that
                await self._dir.end_programs()
            raise
        finally:
            if request.stays and request.port is not None:
                await self._dir.end_lasting()  # a later run may want the port
            serves_on = request.server is not None and request.port is None
            if request.stays and not request.detach and not serves_on:
                await self._dir.tidy()

    def _uploaded_programs(self) -> list[Program]:
        """In the order of their numbers; the server of --serve last."""
        request = self._request
        servers = [request.server] if request.server else []
        return [*request.setup, *request.programs, *servers]

    async def _clone(self) -> None:
        repo = self._request.repo
        if repo is None:
            return
        self._status.say(f"cloning {repo.url} to repo")
        await self._sandbox.clone(repo, "repo")
        # An answer that is not Daytona's has no body to tell by.
        if not await self._sandbox.has_folder("repo"):
            raise Failure(
                "exec_failed", "the server accepted the clone, but it is not in the sandbox"
            )

    async def _upload(self, packed: PackedUpload) -> None:
        archive = f"{self._dir.folder}.in.tar"
        self._status.say(f"uploading {packed.describe()}")
        for problem in packed.problems:
            self._status.tell(problem)
        for line, fix in packed.describe_left():
            whole = f"{line}; {fix}"
            shown = fix and self._status.show(whole).endswith(f"; {fix}")
            self._status.say(whole if shown else line)
        with self._status.waiting("uploading"):
            await self._sandbox.upload_file(str(packed.path), archive)
        command = f"tar -xPf {archive} --no-same-owner; code=$?; rm -f {archive}; exit $code"
        code, said = await self._sandbox.exec(command, timeout_s=UNPACK_TIMEOUT_S)
        if code:
            why = self._status.clean(said.strip())[-LONGEST_REASON:]
            raise Failure(
                "exec_failed",
                f"the sandbox could not unpack the files: {quote_path(why)}",
                fix="choose another place with --upload HERE:THERE, or an image that has tar",
            )

    async def _run_all(self) -> None:
        request, report = self._request, self._report
        try:
            is_set_up = await self._run_setup()
        except BaseException:
            await self._restrict_what_stays()
            raise
        if not is_set_up:
            await self._restrict_what_stays()
            return
        report.exit_code = report.whose = None  # a setup is not what the run came to
        await self._restrict_network()
        if request.detach:
            await self._detach()
            return
        if request.port is None:
            done = await self._run_programs()
        else:
            done = await self._test_server(request.port)
        if request.downloads or request.charts is not None:
            await self._downloads.bring_all(charts=f"{self._dir.folder}/{SAVED}")
        if done and request.preview is not None:
            await self._show_preview(request.preview)

    async def _run_setup(self) -> bool:
        for number, program in enumerate(self._request.setup):
            if not await self._run_step(number, program, what="setup"):
                return False
        return True

    async def _detach(self) -> None:
        await self._dir.start_lasting(len(self._request.setup))
        self._report.detached = True
        local = ["--local"] if self._request.local else []
        logs, wait = (
            skill_env.command("sandboxes.py", verb, self._sandbox.info.id, *local)
            for verb in ("logs", "wait")
        )
        self._status.tell(f"the program runs on in the sandbox; its output: {logs}")
        self._status.tell(f"its exit code: {wait}")
        if self._request.hidden:
            self._status.tell("both hide only the account's key, not the values that were passed")

    async def _test_server(self, port: int) -> bool:
        """Start the server and wait for its port, then run the programs beside it.

        What it printed is shown when it dies before, or a program fails.
        """
        server = await self._start_server()
        self._status.say(f"waiting for port {port}")
        try:
            with self._status.waiting(f"waiting for port {port}"):
                await wait_for_port(
                    self._sandbox,
                    port,
                    timeout_s=self._request.deadlines.timeout_s,
                    server=server,
                    flag="--port",
                )
        except Failure:
            await self._show_server_output(server)
            raise
        done = await self._run_programs()
        if not done:
            self._status.say("what the server printed:")
            await self._show_server_output(server, on_stderr=True)
        return done

    async def _start_server(self) -> LastingProgram:
        return await self._dir.start_lasting(len(self._uploaded_programs()) - 1)

    async def _run_programs(self) -> bool:
        """Whether all of them succeeded; the first failure ends them."""
        programs = self._request.programs
        # That of --serve is a step beside them.
        several = len(programs) > 1
        for number, program in enumerate(programs, len(self._request.setup)):
            if not await self._run_step(number, program, what="step" if several else "program"):
                return False
        return True

    async def _run_step(self, number: int, program: Program, *, what: str) -> bool:
        if what != "program":
            self._status.say(f"{what}: {first_line(program.text)}")
        # stdout is the program's
        out, last_words = self._output.stderr if what == "setup" else self._output.stdout, Tail()

        def on_error_output(text: str) -> None:
            last_words.feed(text)
            self._output.stderr.feed(text)

        ended = await self._dir.run(
            number,
            timeout_s=self._request.deadlines.timeout_s,
            follower=OutputFollower(out.feed, on_error_output),
        )
        self._note_end(program, ended, whose=SETUP if what == "setup" else PROGRAM)
        if ended.exit_code and (missing := describe_missing_module(last_words.text)):
            self._status.tell(missing)
        if what == "setup" and ended.exit_code:
            self._status.tell(
                f"--setup ended with exit code {ended.exit_code}; the program was not run"
            )
        return ended.exit_code == 0

    def _note_end(self, program: Program, ended: ProgramEnd, *, whose: str = PROGRAM) -> None:
        report, timeout_s = self._report, self._request.deadlines.timeout_s
        report.exit_code, report.timed_out, report.whose = ended.exit_code, ended.timed_out, whose
        report.seconds += ended.seconds
        report.steps.append(
            {
                "command": self._status.clean(program.label),
                "exit_code": ended.exit_code,
                "seconds": round(ended.seconds, 3),
            }
        )
        if ended.timed_out:
            report.failure = Failure(
                "timeout",
                f"the {whose} was killed after --timeout {timeout_s} s;"
                " what it printed until then is above",
                fix=f"--timeout {timeout_s * 3};"
                " redirect what shall run on in the background: cmd >log 2>&1 </dev/null &",
            )
        elif ended.exit_code == OUT_OF_MEMORY:
            larger = " or ".join(list(SNAPSHOTS)[1:])
            self._status.tell(
                "exit code 137 is a kill, most often for lack of memory;"
                f" a larger sandbox: --snapshot {larger}"
            )

    async def _restrict_network(self) -> None:
        """Once the network is no longer needed; a rule from the start was read back then."""
        request, rule = self._request, self._request.network
        if not rule or not (request.needs_network_first or not self._report.created):
            return
        await self._sandbox.refresh()
        # One may have come while the setup ran.
        refuse_looser_rule(rule, self._sandbox.info)
        if rule.normalized() != self._sandbox.info.network.normalized():
            await self._sandbox.restrict(rule)
        self._status.say(f"{rule.describe()} from here on")

    async def _restrict_what_stays(self) -> None:
        """After a setup that failed: a later run finds this sandbox, and the rule in it."""
        if not self._request.stays:
            return
        try:
            await asyncio.wait_for(self._restrict_network(), TIDY_LIMIT_S)
        except Failure as failure:
            self._status.tell(f"the sandbox's network rule did not change: {failure.message}")
        except asyncio.TimeoutError:
            self._status.tell("the sandbox's network rule may not have changed: no answer")

    async def _show_preview(self, port: int) -> None:
        """Start the server, wait for its port, make the link; show what it printed if it dies."""
        server = None
        if self._request.server is not None:
            server = await self._start_server()
        self._status.say(f"waiting for port {port}")
        try:
            link, answer = await self._wait_for_preview(port, server)
        except Failure:
            await self._show_server_output(server)
            raise
        self._report.preview = link.as_json(answer)
        self._status.tell(
            f"preview: {link.url} (until {link.expires_at}); first answer: {answer.describe()}"
        )
        if not answer.is_page:
            advice = answer.advice or "the link works, the page does not: see the server's output"
            self._status.tell(advice)

    async def _wait_for_preview(
        self, port: int, server: LastingProgram | None
    ) -> tuple[PreviewLink, FirstAnswer]:
        """A link that leads to this run's server, which lives after its first answer."""
        timeout_s = self._request.deadlines.timeout_s
        with self._status.waiting(f"waiting for port {port}"):
            await wait_for_port(self._sandbox, port, timeout_s=timeout_s, server=server)
            link = await make_preview_link(self._sandbox, port)
            answer = await look_at_first_page(self._sandbox, link)
            if server is not None:
                await asyncio.sleep(SETTLE_S)
                await require_alive(self._sandbox, server, f"after it listened on port {port}")
        return link, answer

    async def _show_server_output(
        self, server: LastingProgram | None, *, on_stderr: bool = False
    ) -> None:
        if server is not None:
            out, err = self._output.stdout.feed, self._output.stderr.feed
            with contextlib.suppress(Failure):
                await self._sandbox.logs(
                    server.session, server.command, err if on_stderr else out, err
                )


def refuse_looser_rule(rule: NetworkRule, info: SandboxInfo) -> None:
    """Raises Failure conflict for a rule that lets through what the one that is there keeps out."""
    if rule.loosens(info.network):
        raise Failure(
            "conflict",
            f"{info.name} has {info.network.describe()},"
            " and a rule that is there is never loosened",
            fix="leave out the network flags, or use another --name",
        )


def first_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) <= LONGEST_COMMAND_SHOWN else line[:LONGEST_COMMAND_SHOWN] + CUT
