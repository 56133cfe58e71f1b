"""What a run does in its sandbox, in order: clone, upload, setup, network rule, the program, downloads, preview."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict

import skill_env
from sandbox_kit.console import quote_path
from sandbox_kit.options import RunOptions

from .archive.packing import NAMES_SHOWN, PackedUpload, readable_size, temporary_tar
from .archive.pairs import download_pair
from .archive.unpacking import ArrivedDownload, SavedFile, unpack_download
from .charts import archive_charts
from .defaults import LARGEST_TRANSFER
from .errors import Failure
from .host_access.gate import HostAccess
from .host_access.held import HeldResults
from .host_access.written import WrittenRecord
from .network_rule import NetworkRule
from .preview import make_preview_link, wait_for_port
from .remote_process import (
    OutputFollower,
    ProgramEnd,
    RemoteProgram,
    RemoteRunDir,
    ignore_failure,
    keep_awake,
)
from .report import PROGRAM, SETUP, ProgramOutput, RunReport
from .sdk import Sandbox, SandboxInfo
from .status_log import StatusLog

OUT_OF_MEMORY = 137
LARGER = "--snapshot daytona-medium or daytona-large"
UNPACK_TIMEOUT_S = 300
NO_SUCH = 66  # as EX_NOINPUT of sysexits.h
# A folder's content without its name; a file under its own. Hard links travel as the files they are.
PACK = (
    "set -e; if test -d {there}; then cd -- {there}; tar -cf {archive} .; "
    'elif test -e {there}; then cd -- "$(dirname -- {there})"; tar -cf {archive} -- "$(basename -- {there})"; else exit {no_such}; fi'
)


class RunSteps:
    """One run's work in one sandbox; what it came to goes into `report`."""

    def __init__(
        self,
        handle: Sandbox,
        options: RunOptions,
        *,
        run_id: str,
        report: RunReport,
        collected: ProgramOutput,
        narrator: StatusLog,
        access: HostAccess,
        packed: PackedUpload | None,
    ) -> None:
        self._handle = handle
        self._options = options
        self._report = report
        self._collected = collected
        self._narrator = narrator
        self._access = access
        self._packed = packed
        self._place = RemoteRunDir(handle, narrator, run_id=run_id, cwd=options.cwd)
        self._held = HeldResults(run_id)
        self._written = WrittenRecord(run_id)
        self._server: tuple[str, str] | None = None

    async def do(self) -> None:
        """Everything that was asked for; raises Failure. A program's own failure is in the report, not raised."""
        options = self._options
        if options.repo is not None:
            self._narrator.say(f"cloning {options.repo.url} to repo")
            await self._handle.clone(options.repo, "repo")
            if not await self._handle.has_folder(
                "repo"
            ):  # an answer that is not Daytona's has no body to tell by
                raise Failure(
                    "exec_failed", "the server accepted the clone, but it is not in the sandbox"
                )
        if self._packed is not None:
            await self._upload(self._packed)
        if options.cwd is not None and not await self._handle.has_folder(options.cwd):
            raise Failure(
                "not_found",
                f"--cwd {quote_path(options.cwd)} is no folder in the sandbox",
                fix="--upload or --repo brings it, or leave out --cwd",
            )
        setup, programs = [RemoteProgram(text) for text in options.setup], self._programs()
        coded = options.charts is not None
        await self._place.prepare([*setup, *([] if coded else programs)], options.env)
        try:
            await self._run_all(setup, programs)
        except asyncio.CancelledError:
            if options.stays:  # a signal ends the program too; a sandbox that is about to be deleted needs no request for that
                await self._place.end_programs()
            raise
        finally:
            if options.stays and not options.detach and options.serve is None:
                await self._place.tidy()

    def _programs(self) -> list[RemoteProgram]:
        """The steps after the setup; the server of --serve last."""
        options = self._options
        programs = [
            RemoteProgram(text, arguments=options.arguments, stdin=options.stdin_data)
            for text in options.commands
        ]
        if options.code is not None:
            programs.append(
                RemoteProgram(options.code, options.language, options.arguments, options.stdin_data)
            )
        if options.serve is not None:
            programs.append(RemoteProgram(options.serve))
        return programs

    async def _run_all(
        self, setup: Sequence[RemoteProgram], programs: Sequence[RemoteProgram]
    ) -> None:
        for number, program in enumerate(setup):
            if not await self._step(number, program, what="setup"):
                return
        self._report.exit_code = self._report.whose = (
            None  # a setup that went well is not what the run came to
        )
        await self._restrict()
        if self._options.detach:
            await self._place.start(len(setup))
            self._report.detached = True
            local = ["--local"] if self._options.local else []
            verbs = [
                skill_env.command("sandboxes.py", verb, self._handle.info.id, *local)
                for verb in ("logs", "wait")
            ]
            self._narrator.tell(f"the program runs on in the sandbox; its output: {verbs[0]}")
            self._narrator.tell(f"its exit code: {verbs[1]}")
            return
        waited = programs[:-1] if self._options.serve is not None else programs
        done = (
            await self._charts()
            if self._options.charts is not None
            else await self._steps(len(setup), waited)
        )
        if self._options.downloads:
            await self._download()
        self._tell_what_is_held()
        if done and self._options.preview is not None:
            await self._preview(len(setup) + len(programs) - 1)

    async def _steps(self, first: int, programs: Sequence[RemoteProgram]) -> bool:
        """Whether all of them succeeded; the first failure ends them."""
        for number, program in enumerate(programs, first):
            if not await self._step(
                number, program, what="step" if len(programs) > 1 else "program"
            ):
                return False
        return True

    async def _step(self, number: int, program: RemoteProgram, *, what: str) -> bool:
        if what != "program":
            self._narrator.say(f"{what}: {first_line(program.text)}")
        out = (
            self._collected.stderr if what == "setup" else self._collected.stdout
        )  # stdout is the program's
        follower = OutputFollower(out.feed, self._collected.stderr.feed)
        ended = await self._place.run(number, timeout_s=self._options.timeout_s, follower=follower)
        text = program.text if program.language is None else self._options.file or program.text
        self._note_end(text, ended, whose=SETUP if what == "setup" else PROGRAM)
        if what == "setup" and ended.exit_code:
            self._narrator.tell(
                f"--setup ended with exit code {ended.exit_code}; the program was not run"
            )
        return ended.exit_code == 0

    def _note_end(self, text: str, ended: ProgramEnd, *, whose: str = PROGRAM) -> None:
        report, narrator = self._report, self._narrator
        report.exit_code, report.timed_out, report.whose = ended.exit_code, ended.timed_out, whose
        report.seconds += ended.seconds
        report.steps.append(
            {
                "command": narrator.clean(text),
                "exit_code": ended.exit_code,
                "seconds": round(ended.seconds, 3),
            }
        )
        if ended.timed_out:
            report.failure = Failure(
                "timeout",
                f"the {whose} was killed after --timeout {self._options.timeout_s} s; what it printed until then is above",
                fix=f"--timeout {self._options.timeout_s * 3}; redirect what shall run on in the background: cmd >log 2>&1 </dev/null &",
            )
        elif ended.exit_code == OUT_OF_MEMORY:
            narrator.tell(
                f"exit code 137 is a kill, most often for lack of memory; a larger sandbox: {LARGER}"
            )

    async def _restrict(self) -> None:
        """Cut the network once it is no longer needed; where the rule held from the start it was read back then."""
        policy = self._options.policy
        if policy and self._late_policy:
            await self._handle.refresh()
            require_no_looser(policy, self._handle.info)  # a rule may have come while the setup ran
            if policy.normalized() != self._handle.info.policy.normalized():
                await self._handle.restrict(policy)
            self._narrator.say(f"{policy.describe()} from here on")

    @property
    def _late_policy(self) -> bool:
        return needs_network_first(self._options) or not self._report.created

    async def _upload(self, packed: PackedUpload) -> None:
        archive = f"{self._place.folder}.in.tar"
        self._narrator.say(f"uploading {packed.describe()}")
        with self._narrator.waiting("uploading"):
            await self._handle.upload_file(str(packed.path), archive)
        command = f"tar -xPf {archive} --no-same-owner; code=$?; rm -f {archive}; exit $code"
        code, said = await self._handle.exec(command, timeout_s=UNPACK_TIMEOUT_S)
        if code:
            raise Failure(
                "exec_failed",
                f"the sandbox could not unpack the files: {quote_path(said.strip()[-300:])}",
                fix="choose another place with --upload HERE:THERE, or an image that has tar",
            )

    async def _download(self) -> None:
        """Also after a failed program: its reports are what one wants then. Its exit code stays the run's."""
        for number, text in enumerate(self._options.downloads):
            try:
                await self._download_one(number, text)
            except Failure as failure:
                if self._report.exit_code in (0, None) and self._report.failure is None:
                    raise
                self._narrator.tell(f"{failure.message}; fix: {failure.fix}")

    async def _download_one(self, number: int, text: str) -> None:
        force = self._options.force
        there, here = download_pair(text, self._access, force=force)
        archive = f"{self._place.folder}.out-{number}.tar"
        pack = PACK.format(there=shlex.quote(there), archive=archive, no_such=NO_SUCH)
        code, said = await self._handle.exec(pack, timeout_s=UNPACK_TIMEOUT_S)
        if code == NO_SUCH:
            raise Failure(
                "not_found",
                f"--download {quote_path(there)}: the sandbox has no such file or folder",
                fix="add `; ls -la` to the command to see what is there; patterns such as *.csv are not expanded",
            )
        if code:
            raise Failure(
                "exec_failed",
                f"the sandbox could not pack {quote_path(there)}: {quote_path(said.strip()[-300:])}",
                fix="fetch less, or look with --keep",
            )
        with temporary_tar() as path:
            with self._narrator.waiting("downloading"), path.open("wb") as file:
                await self._handle.download_file(archive, file, limit=LARGEST_TRANSFER)
            saved = await self._unpack(ArrivedDownload(path, there, here, force))
        if self._options.keeps:
            await ignore_failure(self._handle.remove_folder(archive))
        self._report.files += [{"path": found.path, "bytes": found.bytes} for found in saved]
        total = readable_size(sum(found.bytes for found in saved))
        self._narrator.say(
            f"downloaded {len(saved)} file{'' if len(saved) == 1 else 's'}, {total}, to {quote_path(here)}"
        )

    async def _unpack(self, arrival: ArrivedDownload) -> list[SavedFile]:
        """In a thread, so that a signal is answered; what was written is on record before anything else happens."""
        try:
            return await asyncio.to_thread(
                unpack_download, arrival, self._access, held=self._held, written=self._written
            )
        finally:
            try:
                self._written.save()
            except OSError as error:
                self._narrator.say(
                    f"no record of what was written, so --force will not replace it: {error.strerror}"
                )

    def _tell_what_is_held(self) -> None:
        """One line, with the command that brings it: not in the grant, so the client asks the person."""
        self._report.fetch = self._held.fetch_command()
        self._report.held = [asdict(file) for file in self._held.files]
        if not self._held.files:
            return
        told = ", ".join(
            f"{quote_path(file.path)} ({file.reason})" for file in self._held.files[:NAMES_SHOWN]
        )
        more = len(self._held.files) - NAMES_SHOWN
        self._narrator.tell(
            f"not written here, but kept: {told}{f' and {more} more' if more > 0 else ''}"
        )
        if self._report.fetch is not None:  # alone: names of files must not push it out of its line
            self._narrator.tell(f"to fetch it: {self._report.fetch}")

    async def _charts(self) -> bool:
        """By code_run, whose two streams come as one at its end."""
        options = self._options
        self._report.combined = True
        began = time.monotonic()
        awake = asyncio.create_task(keep_awake(self._handle, self._narrator))
        try:
            done = await self._handle.run_code(
                options.code or "",
                arguments=options.arguments,
                env=options.env,
                timeout_s=options.timeout_s,
            )
        except Failure as failure:
            if failure.kind != "timeout":
                raise
            self._note_end(
                options.file or options.code or "",
                ProgramEnd(None, timed_out=True, seconds=time.monotonic() - began),
            )
            return False
        finally:
            awake.cancel()
        self._collected.stdout.feed(done.output)
        self._note_end(
            options.file or options.code or "",
            ProgramEnd(done.exit_code, timed_out=False, seconds=time.monotonic() - began),
        )
        await self._save_charts(done.charts)
        return done.exit_code == 0

    async def _save_charts(self, images: Sequence[str]) -> None:
        """Through the same gate as a download."""
        here = self._options.charts or "."
        with temporary_tar() as path:
            archive_charts(images, path)
            saved = await self._unpack(
                ArrivedDownload(path, "charts", here.rstrip("/") or "/", self._options.force)
            )
        self._report.charts = [found.path for found in saved]
        self._narrator.say(
            f"saved {', '.join(self._report.charts) or 'no chart: only figures that the code shows (plt.show()) come back'}"
        )

    async def _preview(self, number: int) -> None:
        """Start the server, wait for its port, make the link; when it dies, what it printed is shown."""
        options = self._options
        port = options.preview or 0
        if options.serve is not None:
            self._server = (self._place.session, await self._place.start(number))
        self._narrator.say(f"waiting for port {port}")
        try:
            with self._narrator.waiting(f"waiting for port {port}"):
                await wait_for_port(
                    self._handle, port, timeout_s=options.timeout_s, server=self._server
                )
        except Failure:
            await self._show_the_servers_output()
            raise
        found = await make_preview_link(self._handle, port)
        self._report.preview = found.as_json()
        self._narrator.tell(
            f"preview: {found.url}" + (f" (until {found.expires_at})" if found.expires_at else "")
        )

    async def _show_the_servers_output(self) -> None:
        if self._server is not None:
            with contextlib.suppress(Failure):
                out, err = await self._handle.logs(*self._server)
                self._collected.stdout.feed(out)
                self._collected.stderr.feed(err)


def require_no_looser(policy: NetworkRule, info: SandboxInfo) -> None:
    """Raises Failure conflict for a rule that would let through what the one that is there keeps out."""
    if policy.loosens(info.policy):
        raise Failure(
            "conflict",
            f"{info.name} has {info.policy.describe()}, and a rule that is there is never loosened",
            fix="leave out the network flags, or use another --name",
        )


def needs_network_first(options: RunOptions) -> bool:
    """Whether something before the program needs the network that the program shall not have."""
    return bool(options.setup) or options.repo is not None


def first_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) <= 100 else line[:100] + "…"
