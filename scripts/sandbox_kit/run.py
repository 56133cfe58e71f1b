"""One run: engine, lease, execution and output put together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import traceback

import skill_env

from . import execution, inputs
from .failures import KINDS, Failure, UsageFailure
from .interrupts import Interrupts
from .lease import CREATE_TIMEOUT_S, MANAGED_BY, MANAGER, Identity, Lease
from .options import RunOptions
from .output import Narrator, write_quietly
from .report import Collected, Report
from .sdk import Client, CreateSpec, Handle
from .settings import for_local, from_environment

OUT_OF_MEMORY = 137
LARGER = "--snapshot daytona-medium or daytona-large"


class Run:
    """One run with its options."""

    def __init__(self, options: RunOptions) -> None:
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
        if self.collected.log_problem:
            self.narrator.tell(self.collected.log_problem)
        if self.report.failure is not None:  # before it is dumped: JSON would spell a secret's quotes and newlines otherwise
            self.report.failure.message = self.narrator.clean(self.report.failure.message)
        if self.options.json:
            write_quietly(sys.stdout, self.narrator.clean(json.dumps(self.report.as_json(self.collected))) + "\n")
        if self.report.failure is not None:
            self.narrator.fail(self.report.failure.message, self.report.failure.fix)
        return self.report.exit()

    def _as_failure(self, error: Exception) -> Failure:
        if self.options.debug:
            self.narrator.tell("".join(traceback.format_exception(error)))
        if isinstance(error, Failure):
            return error
        return Failure("internal", f"{type(error).__name__}: {error}", fix=KINDS["internal"].fix)

    async def _guarded(self) -> None:
        interrupts = Interrupts(on_repeat=lambda: self.narrator.tell("still deleting the sandbox, please wait"))
        task = asyncio.ensure_future(self._run())
        with interrupts.cancel(task):
            try:
                await task
            except asyncio.CancelledError:
                raise interrupts.failure() from None

    async def _run(self) -> None:
        settings = await asyncio.to_thread(for_local) if self.options.local else from_environment()
        self.report.engine, self.report.endpoint = settings.engine, settings.endpoint
        secrets = [*settings.secrets, *self.options.env.values()]
        self.narrator.hide(secrets)
        self.collected = Collected(self.options, run_id=self.identity.run_id, secrets=secrets)
        self.narrator.tell(f"engine: {settings.describe()}")
        inputs.refuse_foreign_account(self.options, settings)
        if settings.engine == "local" and self.options.language == "typescript":
            raise UsageFailure("local Daytona runs python and javascript", fix="compile it to javascript, or use the cloud")
        async with Client.open(settings) as client:
            await self._in_a_sandbox(client)

    async def _in_a_sandbox(self, client: Client) -> None:
        lease = Lease(client, self.narrator, how_to_delete=self._delete_command)
        if self.options.sandbox is not None:
            await self._in_an_existing_one(client, self.options.sandbox)
        elif self.options.name is not None:
            await self._by_name(client, lease)
        else:
            await self._in_a_new_one(lease)

    async def _in_an_existing_one(self, client: Client, id_or_name: str) -> None:
        handle = await client.get(id_or_name)
        if handle.info.state != "started":
            self.narrator.say(f"starting {handle.info.name} (it is {handle.info.state})")
            await handle.start(CREATE_TIMEOUT_S)
        await self._execute(handle)

    async def _by_name(self, client: Client, lease: Lease) -> None:
        """Get or create; a create that lost the race against another one uses that one's sandbox."""
        try:
            await self._in_an_existing_one(client, self.identity.name)
        except Failure as failure:
            if failure.kind != "not_found" or self.report.sandbox_id is not None:
                raise
        else:
            return
        try:
            await self._in_a_new_one(lease)
        except Failure as failure:
            if failure.kind != "conflict" or self.report.sandbox_id is not None:
                raise
            await self._in_an_existing_one(client, self.identity.name)  # somebody else was quicker

    async def _in_a_new_one(self, lease: Lease) -> None:
        spec = self._spec()
        self.narrator.say(f"creating sandbox {spec.name} (the server deletes it within {spec.ttl_min} min whatever happens)")
        async with lease.own(spec, self.identity, keep=self.options.keeps, before_delete=self.collected.finish) as handle:
            self.report.created = True
            await self._execute(handle)

    def _spec(self) -> CreateSpec:
        options = self.options
        return CreateSpec(
            name=self.identity.name, labels=self.identity.labels, ephemeral=not options.keeps, auto_stop_min=options.auto_stop_min,
            ttl_min=options.ttl_min, language=options.language or "python", snapshot=options.snapshot, image=options.image,
            cpu=options.cpu, memory=options.memory, disk=options.disk,
        )  # fmt: skip

    async def _execute(self, handle: Handle) -> None:
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

    def _program(self) -> execution.Program:
        if self.options.code is not None:
            return execution.Program(self.options.code, self.options.language)
        return execution.Program(self.options.command or "")

    def _note(self, handle: Handle) -> None:
        info = handle.info
        self.report.sandbox_id, self.report.sandbox_name = info.id, info.name
        self.report.expires_at = info.expires_at
        self.report.kept = self.options.keeps
        self.narrator.say(f"running in {info.name} ({info.id})")

    def _note_end(self, ended: execution.Ended) -> None:
        self.report.exit_code, self.report.timed_out, self.report.seconds = ended.exit_code, ended.timed_out, ended.seconds
        text = self.narrator.clean(self.options.file or self.options.command or self.options.code or "")
        self.report.steps.append({"command": text, "exit_code": ended.exit_code, "seconds": round(ended.seconds, 3)})
        if ended.timed_out:
            self.report.failure = Failure(
                "timeout", f"the program was killed after --timeout {self.options.timeout_s} s; what it printed until then is above",
                fix=f"--timeout {self.options.timeout_s * 3}; redirect what shall run on in the background: cmd >log 2>&1 </dev/null &",
            )  # fmt: skip
        elif ended.exit_code == OUT_OF_MEMORY:
            self.narrator.tell(f"exit code 137 is a kill, most often for lack of memory; a larger sandbox: {LARGER}")

    def _until(self) -> str:
        """When the server ends a kept sandbox, as far as it is known."""
        if self.report.expires_at:
            return f"the server deletes it at {self.report.expires_at}"
        if self.options.sandbox is None and self.report.created:
            return f"the server deletes it within {self.options.ttl_min} minutes of its creation"
        return "the server names no end for it"

    def _tell_what_is_kept(self, handle: Handle) -> None:
        self.collected.finish()
        self.narrator.tell(f"kept: {handle.info.name} ({handle.info.id}); {self._until()}")
        if handle.info.labels.get(MANAGED_BY) == MANAGER:
            self.narrator.tell(f"delete it with: {self._delete_command(handle.info.id)}")

    def _delete_command(self, id_or_name: str) -> str:
        script = skill_env.quoted(skill_env.SKILL / "scripts" / "sandboxes.py")
        return f"python3 {script} delete {id_or_name}" + (" --local" if self.options.local else "")
