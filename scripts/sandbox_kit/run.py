"""One run: engine, lease, execution and output put together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import skill_env
from sandbox_kit.options import RunOptions

from .archive.packing import PackedUpload, pack_uploads, temporary_tar
from .console import write_quietly
from .errors import Failure, UsageFailure, as_failure, with_local_fix
from .host_access.gate import HostAccess
from .inputs import refuse_foreign_account, secrets_of
from .interrupts import Interrupts
from .lease import CREATE_TIMEOUT_S, Lease
from .network_rule import NetworkRule
from .ownership import RunIdentity, require_yours, this_user
from .report import ProgramOutput, RunReport
from .run_steps import RunSteps, needs_network_first, require_no_looser
from .sdk import Client, CreateSpec, Sandbox
from .settings import Settings, local_settings, settings_from_environment
from .status_log import StatusLog

FIXED_WORDS = ("engine", "whose", "streams", "kind")  # of the JSON: never a server's or a program's
ONLY_AT_CREATE = ("snapshot", "image", "target", "secrets", "labels")


class Run:
    """One run with its options."""

    def __init__(self, options: RunOptions, access: HostAccess) -> None:
        self.options = options
        self.access = access
        self.secrets = secrets_of(options)
        self.narrator = StatusLog(
            quiet=options.quiet, verbose=options.verbose, secrets=self.secrets
        )
        self.identity = RunIdentity.new(this_user(), options.name)
        self.report = RunReport()
        self.packed: PackedUpload | None = None
        self.collected = ProgramOutput(options, run_id=self.identity.run_id, secrets=self.secrets)

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
        if self.options.dry_run and self.report.request is not None:
            write_quietly(sys.stdout, json.dumps(self.report.request, indent=2) + "\n")
        elif self.options.json:
            write_quietly(
                sys.stdout,
                json.dumps(self._without_secrets(self.report.as_json(self.collected))) + "\n",
            )
        self._end()
        return self.report.exit()

    def _without_secrets(self, value: Any, name: str = "") -> Any:
        """Values alone, before they are spelt as JSON: a secret may be chosen to look like a part of it. Words of ours stay."""
        if isinstance(value, str):
            return value if name in FIXED_WORDS else self.narrator.clean(value)
        if isinstance(value, dict):
            return {key: self._without_secrets(found, key) for key, found in value.items()}
        return (
            [self._without_secrets(found, name) for found in value]
            if isinstance(value, list)
            else value
        )

    def _end(self) -> None:
        """The last words, after all that the program printed: whose exit code it is, because a program can print any line of ours."""
        report, code = self.report, self.report.exit()
        if report.failure is not None:
            self.narrator.fail(
                report.failure.message,
                report.failure.fix,
                whose=f"exit code {code} is this tool's: ",
            )
        elif report.exit_code is not None:
            self.narrator.end(f"exit code {code} is the {report.whose}'s")
        elif not self.options.dry_run:
            self.narrator.end(
                f"exit code {code} is this tool's: {'the program runs on' if report.detached else 'all is done'}"
            )

    def _as_failure(self, error: Exception) -> Failure:
        if self.options.debug:
            self.narrator.trace(error)
        failure = as_failure(error)
        return with_local_fix(failure) if self.options.local else failure

    async def _guarded(self) -> None:
        interrupts = Interrupts(
            on_repeat=lambda: self.narrator.tell("still deleting the sandbox, please wait")
        )
        task = asyncio.ensure_future(self._run())
        with interrupts.cancel(task):
            try:
                await task
            except asyncio.CancelledError:
                raise interrupts.failure() from None

    async def _run(self) -> None:
        settings = await self._settings()
        async with Client.open(settings) as client:
            if self.options.dry_run:
                self.report.request = await client.request_of(self._spec())
            else:
                with contextlib.ExitStack() as stack:
                    if self.options.uploads:
                        await self._pack(stack.enter_context(temporary_tar()))
                    await self._in_a_sandbox(client)

    async def _pack(self, path: Path) -> None:
        """Before anything is created: too much, or what cannot be read, costs no sandbox. In a thread, so that a signal is answered."""
        self.packed = await asyncio.to_thread(pack_uploads, path, self.options.uploads, self.access)

    async def _settings(self) -> Settings:
        if self.options.dry_run:
            settings = Settings.nowhere()
        else:
            settings = (
                await asyncio.to_thread(local_settings)
                if self.options.local
                else settings_from_environment()
            )
        self.report.engine, self.report.endpoint = settings.engine, settings.endpoint
        self.secrets = [*settings.secrets, *self.secrets]
        self.narrator.hide(self.secrets)
        self.collected = ProgramOutput(
            self.options, run_id=self.identity.run_id, secrets=self.secrets
        )
        if not self.options.dry_run:
            self.narrator.tell(f"engine: {settings.describe()}")
        refuse_foreign_account(self.options, settings)
        if settings.engine == "local" and self.options.language == "typescript":
            raise UsageFailure(
                "local Daytona runs python and javascript",
                fix="compile it to javascript, or use the cloud",
            )
        return settings

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
        self._require_yours(handle)
        late = [f"--{name}" for name in ONLY_AT_CREATE if getattr(self.options, name)]
        if late:
            self.narrator.tell(
                f"{handle.info.name} exists already, so {', '.join(late)} changes nothing"
            )
        if handle.info.state != "started":
            self.narrator.say(f"starting {handle.info.name} (it is {handle.info.state})")
            await handle.start(CREATE_TIMEOUT_S)
            self._require_yours(handle)
        await self._execute(handle)

    def _require_yours(self, handle: Sandbox) -> None:
        """This user's, and with a network that this run does not loosen; raises Failure forbidden or conflict."""
        info = handle.info
        require_yours(
            info.id, info.name, info.labels, user=self.identity.user, local=self.options.local
        )
        require_no_looser(self.options.policy, info)

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
        self.narrator.say(
            f"creating sandbox {spec.name} (the server deletes it within {spec.ttl_min} min whatever happens)"
        )
        async with lease.own(spec, keep=self._keep, before_delete=self.collected.finish) as handle:
            self.report.created = True
            if spec.policy:
                handle.require(spec.policy)
            await self._execute(handle)

    def _spec(self) -> CreateSpec:
        options = self.options
        return CreateSpec(
            identity=self.identity,
            labels=options.labels,
            ephemeral=not options.keeps,
            auto_stop_min=options.auto_stop_min,
            ttl_min=options.ttl_min,
            language=options.language or "python",
            snapshot=options.snapshot,
            image=options.image,
            cpu=options.cpu,
            memory=options.memory,
            disk=options.disk,
            target=options.target,
            secrets=options.secrets,
            policy=NetworkRule() if needs_network_first(options) else options.policy,
        )

    async def _execute(self, handle: Sandbox) -> None:
        self._note(handle)
        began = time.monotonic()
        work = RunSteps(
            handle,
            self.options,
            run_id=self.identity.run_id,
            report=self.report,
            collected=self.collected,
            narrator=self.narrator,
            access=self.access,
            packed=self.packed,
        )
        try:
            await work.do()
        finally:
            self._tell_the_size(handle, time.monotonic() - began)
            if self._keep():
                self._tell_what_is_kept(handle)

    def _keep(self) -> bool:
        """A link or a detached program is worth a sandbox that goes on; an attempt at one is not."""
        self.report.kept = (
            self.options.stays or self.report.detached or self.report.preview is not None
        )
        return self.report.kept

    def _note(self, handle: Sandbox) -> None:
        info = handle.info
        self.report.sandbox_id, self.report.sandbox_name = info.id, info.name
        self.report.expires_at = info.expires_at
        self.narrator.say(f"running in {info.name} ({info.id})")

    def _tell_the_size(self, handle: Sandbox, seconds: float) -> None:
        """What is paid for: seconds of vCPUs, memory and disk."""
        info = handle.info
        if info.cpu and self.report.created:
            tell = self.narrator.say if self.report.engine == "cloud" else self.narrator.detail
            tell(
                f"billed: {info.cpu} vCPU, {info.memory} GiB memory and {info.disk} GiB disk for {seconds:.0f} s"
                + (" so far" if self._keep() else "")
            )

    def _until(self) -> str:
        """When the server ends a kept sandbox, as far as it is known."""
        if self.report.expires_at:
            return f"the server deletes it at {self.report.expires_at}"
        if self.options.sandbox is None and self.report.created:
            return f"the server deletes it within {self.options.ttl_min} minutes of its creation"
        return "the server names no end for it"

    def _tell_what_is_kept(self, handle: Sandbox) -> None:
        try:
            self.collected.finish()
        finally:
            self.narrator.tell(f"kept: {handle.info.name} ({handle.info.id}); {self._until()}")
            self.narrator.tell(f"delete it with: {self._delete_command(handle.info.id)}")
            if not self.identity.user.stored:
                self.narrator.tell(
                    "this user's id could not be stored, so it has to be adopted before it is used or deleted by these scripts"
                )

    def _delete_command(self, id_or_name: str) -> str:
        return skill_env.command(
            "sandboxes.py", "delete", id_or_name, *(["--local"] if self.options.local else [])
        )
