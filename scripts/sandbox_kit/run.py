"""One run in its order: create, work, delete. `run_steps` says what the work is."""

from __future__ import annotations

import time

import skill_env

from .errors import Failure
from .lease import CREATE_TIMEOUT_S, Lease
from .network_rule import NetworkRule
from .output import ProgramOutput
from .ownership import RunIdentity, require_yours
from .report import RunReport
from .request import RunRequest
from .run_context import RunContext, RunRecord
from .run_steps import RunSteps, refuse_looser_rule
from .sdk import CreateSpec, Sandbox


class Run:
    """One run of a request; its report fills on the way, so a failure leaves what there was."""

    def __init__(self, request: RunRequest, context: RunContext, report: RunReport) -> None:
        self.identity = RunIdentity.new(context.user, request.name)
        self.report = report
        self.output = ProgramOutput(
            request.display,
            run_id=self.identity.run_id,
            secrets=[*context.settings.secrets, *request.hidden],
        )
        self.record = RunRecord(self.identity, self.report, self.output)
        self._request = request
        self._client = context.client
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
        spec = create_spec(self._request, self.identity)
        lease = Lease(self._client, spec, self._status, how_to_delete=self._delete_command)
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
        if sandbox.info.state != "started":
            self._status.say(f"starting {sandbox.info.name} (it is {sandbox.info.state})")
            await sandbox.start(CREATE_TIMEOUT_S)
            self._require_usable(sandbox)
        await self._work_in(sandbox)

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
        finally:
            self._tell_the_size(sandbox, time.monotonic() - began)
            if self._keep():
                self._tell_what_is_kept(sandbox)

    def _keep(self) -> bool:
        """Whether the sandbox stays: for a link or detached program, not for an attempt at one."""
        report = self.report
        report.kept = self._request.stays or report.detached or report.preview is not None
        return report.kept

    def _note_sandbox(self, sandbox: Sandbox) -> None:
        info = sandbox.info
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

    def _tell_what_is_kept(self, sandbox: Sandbox) -> None:
        try:
            self.output.finish()
        finally:
            info = sandbox.info
            self._status.tell(f"kept: {info.name} ({info.id}); {self._describe_end()}")
            self._status.tell_own(f"delete it with: {self._delete_command(info.id)}")
            if not self.identity.user.stored:
                self._status.tell(
                    "this user's id could not be stored, so it has to be adopted before it is"
                    " used or deleted by these scripts"
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


def create_spec(request: RunRequest, identity: RunIdentity) -> CreateSpec:
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
        network=NetworkRule() if request.needs_network_first else request.network,
    )
