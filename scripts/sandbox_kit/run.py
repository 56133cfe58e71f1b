"""run_in_sandbox.py: options, engine, lease, execution and output put together; one run from the command line to the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import skill_env

from .failures import KINDS, TIMED_OUT, Failure, UsageFailure
from .options import RunOptions, parse_run
from .output import Log, Narrator, Stream, use_utf8

INTERNAL_FIX = KINDS["internal"].fix
OUT_OF_MEMORY = 137


@dataclass
class Report:
    """What the run came to; the JSON of design section 3."""

    engine: str | None = None
    endpoint: str | None = None
    sandbox_id: str | None = None
    sandbox_name: str | None = None
    kept: bool = False
    expires_at: str | None = None
    exit_code: int | None = None
    timed_out: bool = False
    seconds: float = 0.0
    steps: list[dict[str, Any]] = field(default_factory=list)
    failure: Failure | None = None

    def as_json(self, collected: Collected) -> dict[str, Any]:
        sandbox = {"id": self.sandbox_id, "name": self.sandbox_name, "kept": self.kept, "expires_at": self.expires_at}
        return {
            "engine": self.engine,
            "endpoint": self.endpoint,
            "sandbox": sandbox if self.sandbox_name else None,
            "exit_code": self.exit_code,
            "timed_out": self.timed_out,
            "seconds": round(self.seconds, 3),
            "stdout": "".join(collected.out),
            "stderr": "".join(collected.err),
            "streams": "split",
            "truncated": collected.truncated,
            "log": collected.log_path,
            "steps": self.steps,
            "files": [],
            "charts": [],
            "preview": None,
            "error": self.failure.as_json() if self.failure else None,
        }

    def exit(self) -> int:
        if self.failure is not None:
            return self.failure.exit_code
        return TIMED_OUT if self.timed_out else int(self.exit_code or 0)


class Collected:
    """Where the program's two streams go: to our own as they come, or into the JSON."""

    def __init__(self, options: RunOptions, *, run_id: str, secrets: Sequence[str]) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._log = Log(run_id)
        writers = (self.out.append, self.err.append) if options.json else (Pipe(sys.stdout).write, Pipe(sys.stderr).write)
        self.stdout, self.stderr = (Stream(write, limit=options.max_output, secrets=secrets, log=self._log) for write in writers)
        self._finished = False

    @property
    def truncated(self) -> bool:
        return self.stdout.truncated or self.stderr.truncated

    @property
    def log_path(self) -> str | None:
        return str(self._log.path) if self._log.path.exists() else None

    def finish(self) -> None:
        """Everything that was held back goes out now; called before the sandbox's deletion is sent."""
        if not self._finished:
            self._finished = True
            for stream in (self.stdout, self.stderr):
                stream.finish()
            self._log.close()


class Pipe:
    """One of our own streams; when its reader goes away the run ends, because nobody is left to read it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._broken = True
            raise Failure("interrupted", "nobody reads the output any more", exit_code=125) from None


def main(argv: Sequence[str] | None = None) -> int:
    """The whole script; returns the exit code."""
    use_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse_run(words)
    except UsageFailure as failure:
        return refuse(failure, as_json="--json" in words)
    try:
        skill_env.enter()
    except skill_env.NotInstalled as missing:
        return refuse(Failure(missing.kind, str(missing), fix=missing.fix), as_json=options.json)
    return Run(options).to_the_end()


def refuse(failure: Failure, *, as_json: bool) -> int:
    """A run that ends before anything was created."""
    if as_json:
        nothing = Collected(RunOptions(json=True), run_id="none", secrets=())
        print(json.dumps(Report(failure=failure).as_json(nothing)))
    Narrator().fail(failure.message, failure.fix)
    return failure.exit_code


class Run:
    """One run with its options."""

    def __init__(self, options: RunOptions) -> None:
        from .lease import Identity

        self.options = options
        self.narrator = Narrator(quiet=options.quiet, secrets=options.env.values())
        self.identity = Identity.new(options.name)
        self.report = Report()
        self.collected = Collected(options, run_id=self.identity.run_id, secrets=list(options.env.values()))

    def to_the_end(self) -> int:
        """Run, report, and return the exit code; no traceback without --debug."""
        try:
            asyncio.run(self._guarded())
        except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line and a fix
            self.report.failure = self._as_failure(error)
        with contextlib.suppress(Failure):
            self.collected.finish()
        if self.options.json:
            print(self.narrator.clean(json.dumps(self.report.as_json(self.collected))), flush=True)
        if self.report.failure is not None:
            self.narrator.fail(self.report.failure.message, self.report.failure.fix)
        return self.report.exit()

    def _as_failure(self, error: Exception) -> Failure:
        if self.options.debug:
            self.narrator.tell("".join(traceback.format_exception(error)))
        if isinstance(error, Failure):
            return error
        return Failure("internal", f"{type(error).__name__}: {error}", fix=INTERNAL_FIX)

    async def _guarded(self) -> None:
        from .interrupts import Interrupts

        interrupts = Interrupts(on_repeat=lambda: self.narrator.tell("still deleting the sandbox, please wait"))
        task = asyncio.ensure_future(self._run())
        with interrupts.cancel(task):
            try:
                await task
            except asyncio.CancelledError:
                raise interrupts.failure() from None

    async def _run(self) -> None:
        from .sdk import Client
        from .settings import for_local, from_environment

        settings = await asyncio.to_thread(for_local) if self.options.local else from_environment()
        self.report.engine, self.report.endpoint = settings.engine, settings.endpoint
        secrets = [*settings.secrets, *self.options.env.values()]
        self.narrator.hide(secrets)
        self.collected = Collected(self.options, run_id=self.identity.run_id, secrets=secrets)
        self.narrator.tell(f"engine: {settings.describe()}")
        if settings.engine == "local" and self.options.language == "typescript":
            raise UsageFailure("local Daytona runs python and javascript", fix="compile it to javascript, or use the cloud")
        async with Client.open(settings) as client:
            await self._in_a_sandbox(client)

    async def _in_a_sandbox(self, client: Any) -> None:
        from .lease import Lease

        lease = Lease(client, self.narrator, how_to_delete=self._delete_command)
        if self.options.sandbox is not None:
            await self._in_an_existing_one(client, self.options.sandbox)
        elif self.options.name is not None:
            await self._by_name(client, lease)
        else:
            await self._in_a_new_one(lease)

    async def _in_an_existing_one(self, client: Any, id_or_name: str) -> None:
        from .lease import CREATE_TIMEOUT_S

        handle = await client.get(id_or_name)
        if handle.info.state != "started":
            self.narrator.say(f"starting {handle.info.name} (it is {handle.info.state})")
            await handle.start(CREATE_TIMEOUT_S)
        await self._execute(handle)

    async def _by_name(self, client: Any, lease: Any) -> None:
        """Get or create; a create that lost the race against another one uses that one's sandbox."""
        try:
            await self._in_an_existing_one(client, self.identity.name)
        except Failure as failure:
            if failure.kind != "not_found" or self.report.sandbox_id is not None:
                raise
        else:
            return
        await self._in_a_new_one(lease)

    async def _in_a_new_one(self, lease: Any) -> None:
        spec = self._spec()
        self.narrator.say(f"creating sandbox {spec.name} (the server deletes it within {spec.ttl_min} min whatever happens)")
        async with lease.own(spec, self.identity, keep=self.options.keeps, before_delete=self.collected.finish) as handle:
            await self._execute(handle)

    def _spec(self) -> Any:
        from .sdk import CreateSpec

        options = self.options
        return CreateSpec(
            name=self.identity.name, labels=self.identity.labels, ephemeral=not options.keeps, auto_stop_min=options.auto_stop_min,
            ttl_min=options.ttl_min, language=options.language, snapshot=options.snapshot, image=options.image,
            cpu=options.cpu, memory=options.memory, disk=options.disk,
        )  # fmt: skip

    async def _execute(self, handle: Any) -> None:
        from . import execution

        self._note(handle)
        try:
            if self.options.repo is not None:
                self.narrator.say(f"cloning {self.options.repo} to repo")
                await handle.clone(self.options.repo, "repo", self.options.branch)
            program = self._program()
            follower = execution.Follower(self.collected.stdout.feed, self.collected.stderr.feed)
            ended = await execution.run(
                handle, program, run_id=self.identity.run_id, env=self.options.env, timeout_s=self.options.timeout_s,
                follower=follower, narrator=self.narrator, tidy=self.options.keeps,
            )  # fmt: skip
            self._note_end(ended)
        finally:
            if self.report.kept:
                self._tell_what_is_kept(handle)

    def _program(self) -> Any:
        from .execution import Program

        if self.options.code is not None:
            return Program(self.options.code, self.options.language)
        return Program(self.options.command or "")

    def _note(self, handle: Any) -> None:
        info = handle.info
        self.report.sandbox_id, self.report.sandbox_name = info.id, info.name
        self.report.expires_at = info.expires_at
        self.report.kept = self.options.keeps
        self.narrator.say(f"running in {info.name} ({info.id})")

    def _note_end(self, ended: Any) -> None:
        self.report.exit_code, self.report.timed_out, self.report.seconds = ended.exit_code, ended.timed_out, ended.seconds
        text = self.narrator.clean(self.options.command or self.options.code or "")
        self.report.steps.append({"command": text, "exit_code": ended.exit_code, "seconds": round(ended.seconds, 3)})
        if ended.timed_out:
            self.report.failure = Failure(
                "timeout", f"the program was killed after --timeout {self.options.timeout_s} s; what it printed until then is above",
                fix=f"--timeout {self.options.timeout_s * 3}; redirect what shall run on in the background: cmd >log 2>&1 </dev/null &",
            )  # fmt: skip
        elif ended.exit_code == OUT_OF_MEMORY:
            self.narrator.tell(f"exit code 137 is a kill, most often for lack of memory; a larger sandbox: {LARGER}")

    def _tell_what_is_kept(self, handle: Any) -> None:
        self.collected.finish()
        until = (
            f"the server deletes it at {self.report.expires_at}"
            if self.report.expires_at
            else "it has no ttl: nothing deletes it by itself"
        )
        self.narrator.tell(f"kept: {handle.info.name} ({handle.info.id}); {until}")
        self.narrator.tell(f"delete it with: {self._delete_command(handle.info.id)}")

    def _delete_command(self, id_or_name: str) -> str:
        script = skill_env.quoted(skill_env.SKILL / "scripts" / "sandboxes.py")
        return f"python3 {script} delete {id_or_name}" + (" --local" if self.options.local else "")


LARGER = "--snapshot daytona-medium or daytona-large"
