"""One run in its order: create, work, delete. `run_steps` says what the work is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import skill_env

from .deadlines import idles_longer, is_longer
from .errors import Failure
from .lease import CREATE_TIMEOUT_S, Lease
from .network_rule import NetworkRule
from .output import ProgramOutput
from .ownership import RunIdentity, require_yours
from .report import RunReport
from .request import RunRequest
from .run_context import RunContext, RunRecord
from .run_steps import RunSteps, refuse_looser_rule
from .sandbox_end import BROKEN, STARTED, SandboxEnd, find_end, may_be_an_end
from .sdk import CreateSpec, Sandbox, SandboxInfo


class Run:
    """One run of a request; its report fills on the way, so a failure leaves what there was."""

    def __init__(self, request: RunRequest, context: RunContext, report: RunReport) -> None:
        self.identity = context.identity or RunIdentity.new(context.user, request.name)
        self.report = report
        self.output = ProgramOutput(
            request.display,
            run_id=self.identity.run_id,
            secrets=[*context.settings.secrets, *request.hidden],
            label=context.label,
        )
        self.record = RunRecord(self.identity, self.report, self.output)
        self._request = request
        self._client = context.client
        self._sandbox: Sandbox | None = None
        self._lease: Lease | None = None  # None in a sandbox that was there before
        self._end: SandboxEnd | None = None  # of a sandbox that ended under this run
        self._context = context
        self._status = context.status

    async def execute(self) -> None:
        """Run it, to the deletion of its sandbox; raises Failure.

        A program's own failure is in the report, not raised.
        """
        if self._request.sandbox is not None:
            await self._run_in_existing(self._request.sandbox)
        elif self._request.name is not None:
            await self._run_in_named()
        else:
            await self._run_in_new()

    async def _run_in_new(self) -> None:
        """Create, run, delete: whatever happens between the first and the last."""
        spec = create_spec(self._request, self.identity, self._context.volumes)
        lease = self._lease = Lease(
            self._client, spec, self._status, how_to_delete=self._delete_command
        )
        self._status.say(
            f"creating sandbox {spec.name}"
            f" (the server deletes it within {spec.ttl_min} min whatever happens)"
        )
        sandbox = await lease.create()
        try:
            self.report.created = True
            if spec.network:
                sandbox.require(spec.network)
            await self._work_in(sandbox)
        finally:
            try:
                self.output.finish()
            finally:  # a reader that went away must not keep the sandbox alive
                if not self._keep():
                    await lease.delete(sandbox.info.id)

    async def _run_in_existing(self, id_or_name: str) -> None:
        sandbox = await self._client.get(id_or_name)
        self._require_usable(sandbox)
        late = self._request.flags_only_at_create
        if late:
            self._status.tell(
                f"{sandbox.info.name} exists already, so {', '.join(late)} changes nothing"
            )
        if sandbox.info.state != STARTED:
            await self._start(sandbox)
            self._require_usable(sandbox)
        await self._set_lifetime(sandbox)
        await self._work_in(sandbox)

    async def _start(self, sandbox: Sandbox) -> None:
        """A stopped one, or one that the server ended in error and can start again."""
        info = sandbox.info
        if info.state not in BROKEN:
            self._status.say(f"starting {info.name} (it is {info.state})")
            await sandbox.start(CREATE_TIMEOUT_S)
            return
        reason = f" ({info.error_reason})" if info.error_reason else ""
        refused = ""
        if info.recoverable:
            self._status.tell(f"{info.name} ended in {info.state}{reason}: starting it again")
            try:
                await sandbox.recover(CREATE_TIMEOUT_S)
            except Failure as failure:
                refused = f"; {failure.message}"
            else:
                return
        raise Failure(
            "exec_failed",
            f"{info.name} is broken, state {info.state}{reason}, and cannot be started{refused}",
            fix=f"{self._delete_command(info.id)}; then repeat it (the files are gone)",
        )

    async def _set_lifetime(self, sandbox: Sandbox) -> None:
        """What the user chose of --ttl and --auto-stop, which the create gave it before.

        Longer, never shorter: a granted line ends nothing. Nor without an end.
        """
        times, before = self._request.deadlines, sandbox.info
        auto_stop = times.given_auto_stop_min
        if auto_stop is None and self._goes_on and before.expires_at and before.auto_stop_min:
            auto_stop = 0  # what goes on by itself must not be stopped as idle: its ttl ends it
        if times.given_ttl_min is not None:
            if is_longer(times.given_ttl_min, before.expires_at):
                await self._set_time("--ttl", sandbox.set_ttl, times.given_ttl_min)
            if sandbox.info.expires_at == before.expires_at:
                self._status.tell(f"{before.name} exists already, so --ttl changes nothing")
        if auto_stop is not None and auto_stop != before.auto_stop_min:
            if idles_longer(auto_stop, before.auto_stop_min, ends=bool(sandbox.info.expires_at)):
                await self._set_time("--auto-stop", sandbox.set_auto_stop, auto_stop)
            else:
                self._status.tell(f"{before.name} exists already, so --auto-stop changes nothing")

    async def _set_time(
        self, flag: str, change: Callable[[int], Awaitable[None]], minutes: int
    ) -> None:
        try:
            await change(minutes)
        except Failure as failure:
            self._status.tell(f"{flag} {minutes} was refused: {failure.message}")

    @property
    def _goes_on(self) -> bool:
        return self._request.detach or self._request.preview is not None

    async def _run_in_named(self) -> None:
        """Get or create; a create that lost a race against another uses that one's sandbox."""
        try:
            await self._run_in_existing(self.identity.name)
        except Failure as failure:
            if failure.kind != "not_found" or self._has_sandbox:
                raise
        else:
            return
        try:
            await self._run_in_new()
        except Failure as refused:
            if refused.kind != "conflict" or self._has_sandbox:
                raise
            await self._run_in_existing(self.identity.name)  # somebody else was quicker

    @property
    def _has_sandbox(self) -> bool:
        return self.report.sandbox_id is not None

    def _require_usable(self, sandbox: Sandbox) -> None:
        """This user's, and with a network that this run does not loosen; raises Failure."""
        info = sandbox.info
        require_yours(
            info.id, info.name, info.labels, user=self.identity.user, local=self._request.local
        )
        refuse_looser_rule(self._request.network, info)

    async def _work_in(self, sandbox: Sandbox) -> None:
        self._note_sandbox(sandbox)
        began = time.monotonic()
        try:
            await RunSteps(sandbox, self._request, self._context, self.record).do()
        except Failure as failure:
            self._end = await find_end(sandbox) if may_be_an_end(failure) else None
            if self._end is None:
                raise
            raise self._as_failure(self._end) from failure
        finally:
            self._tell_the_size(sandbox, time.monotonic() - began)
            if self._keep():
                self.output.finish()

    def _as_failure(self, end: SandboxEnd) -> Failure:
        again = self._request.sandbox or self._request.name
        delete = None if end.is_gone or again is None else self._delete_command(end.info.id)
        return Failure(
            "exec_failed",
            f"the sandbox {end.info.name} ended under the run: {end.describe()}",
            fix=end.suggest(ttl_min=self._request.deadlines.ttl_min, delete=delete),
        )

    def _keep(self) -> bool:
        """Whether the sandbox stays: for a link or detached program, not for an attempt at one."""
        report = self.report
        stays = self._request.stays or report.detached or report.preview is not None
        report.kept = stays and not (self._end and self._end.is_gone)
        return report.kept

    def _note_sandbox(self, sandbox: Sandbox) -> None:
        self._sandbox, info = sandbox, sandbox.info
        self.report.sandbox_id, self.report.sandbox_name = info.id, info.name
        self.report.expires_at = info.expires_at
        self._status.say(f"running in {info.name} ({info.id})")

    def _tell_the_size(self, sandbox: Sandbox, seconds: float) -> None:
        """What is paid for: seconds of vCPUs, memory and disk."""
        info = sandbox.info
        if info.cpu and self.report.created:
            in_cloud = self.report.engine == "cloud"
            tell = self._status.say if in_cloud else self._status.detail
            tell(
                f"billed: {info.cpu} vCPU, {info.memory} GiB memory and {info.disk} GiB disk"
                f" for {seconds:.0f} s{' so far' if self._keep() else ''}"
            )

    def finish_output(self) -> None:
        """Show what is left of it; that stdout is lost is told elsewhere."""
        with contextlib.suppress(Failure):
            self.output.finish()
        if self.output.log_problem:
            self._status.tell(self.output.log_problem)

    def give_up(self) -> None:
        """The process ends before the sandbox's deletion was accepted, if there is any."""
        if self._lease is not None and not self._keep():
            self._lease.give_up(self.report.sandbox_id)

    def tell_outcome(self) -> None:
        """What became of the sandbox: one line, without those words that a secret could take out.

        Nothing when there never was one.
        """
        left = self._lease.left if self._lease else None
        if left is not None:
            name = self._status.show(left.sandbox_id or "")
            self._status.tell_own(f"may be left: {name}; delete it with: {left.fix}")
        elif self._lease and self._lease.deleted:
            name = self._sandbox.info.name if self._sandbox else self.identity.name
            self._status.say(f"deleted: {name}")
        elif self._sandbox is not None:
            self._tell_what_is_kept(self._sandbox.info)

    def _tell_what_is_kept(self, info: SandboxInfo) -> None:
        name = self._status.show(f"{info.name} ({info.id})")
        if self._end is not None and self._end.is_gone:
            self._status.tell_own(f"deleted: {name}, but not by this run")
            return
        if not self.identity.user.stored:
            self._status.tell(
                "this user's id could not be stored, so it has to be adopted before it is"
                " used or deleted by these scripts"
            )
        state = "" if self._end is None else f", which is {info.state}"
        self._status.tell_own(
            f"kept: {name}{state}; {self._describe_end()};"
            f" delete it with: {self._delete_command(info.id)}"
        )

    def _describe_end(self) -> str:
        """When the server ends a kept sandbox, as far as it is known."""
        if self.report.expires_at:
            return f"the server deletes it at {self.report.expires_at}"
        if self._request.sandbox is None and self.report.created:
            ttl_min = self._request.deadlines.ttl_min
            return f"the server deletes it within {ttl_min} minutes of its creation"
        return "the server names no end for it"

    def _delete_command(self, id_or_name: str) -> str:
        local = ["--local"] if self._request.local else []
        return skill_env.command("sandboxes.py", "delete", id_or_name, *local)


def create_spec(
    request: RunRequest, identity: RunIdentity, volumes: Mapping[str, str]
) -> CreateSpec:
    """The sandbox of a run.

    Its network rule comes later where a step before the program needs the network.
    """
    return CreateSpec(
        identity=identity,
        labels=request.labels,
        ephemeral=not request.keeps,
        auto_stop_min=request.deadlines.auto_stop_min,
        ttl_min=request.deadlines.ttl_min,
        language=(request.programs[0].language if request.programs else None) or "python",
        snapshot=request.snapshot,
        image=request.image,
        cpu=request.cpu,
        memory=request.memory,
        disk=request.disk,
        target=request.target,
        secrets=request.secrets,
        volumes=volumes,
        network=NetworkRule() if request.needs_network_first else request.network,
    )
