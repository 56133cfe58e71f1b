"""Declarative builds: a Dockerfile carried out in a sandbox, which becomes the result."""

from __future__ import annotations

import asyncio
import functools
import logging
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...errors import ApiError, BuildProblem, FileProblem, SandboxGone
from ...http_json import Fields
from ...isolation.agent_client import RunningProgram
from ...isolation.host_etc import HOME
from ...isolation.spawning import MERGED, spawn
from ...isolation.streams import chunks
from ...toolbox.toolbox import Toolbox
from ..engine_failures import as_api_error
from ..sandboxes.records import Record
from ..sandboxes.register import ManagedSandbox, Register
from ..sandboxes.runtime import Runtime
from ..sandboxes.service import Sandboxes, ended
from ..sandboxes.storage import Storage
from ..snapshots.service import Snapshot, Snapshots
from .dockerfile import (
    LARGEST,
    NO_CONTEXT,
    WITHOUT_EFFECT,
    Step,
    add_variables,
    base_of,
    filled,
    program,
    refuse_other_user,
    refuse_unsupported,
    steps_of,
)
from .logs import BuildLog, BuildLogs

log = logging.getLogger(__name__)
AT_ONCE = 4
STEP_TIMEOUT_S = 30 * 60.0
DRAIN_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What is to be built: a Dockerfile, the snapshot it begins with, the steps after that."""

    dockerfile: str
    base: Snapshot
    steps: list[Step]

    @classmethod
    def of(cls, dockerfile: str, snapshots: Snapshots) -> Plan:
        """Raises the 400 for a Dockerfile without a known FROM.

        What else is wrong with it the build says.
        """
        if len(dockerfile) > LARGEST:
            raise ApiError(400, f"dockerfileContent is larger than {LARGEST} bytes")
        try:
            name, steps = base_of(steps_of(dockerfile))
        except (ValueError, BuildProblem) as error:
            raise ApiError(400, str(error)) from None
        return cls(dockerfile, snapshots.base(name), steps)


def plan_of(fields: Fields, snapshots: Snapshots) -> Plan | None:
    """The plan of a request's buildInfo, None without one.

    Raises the 400, or the 501 for a build context.
    """
    info = fields.any("buildInfo")
    if info is None:
        return None
    if not isinstance(info, dict):
        raise ApiError(400, "buildInfo must be an object")
    build = Fields(info)
    if build.list_of_texts("contextHashes"):
        raise ApiError(501, NO_CONTEXT, code="NOT_IMPLEMENTED")
    return Plan.of(build.text("dockerfileContent"), snapshots)


@dataclass
class Environment:
    """What the instructions so far have set for the next ones."""

    env: dict[str, str]
    arguments: dict[str, str]
    work_dir: str
    entrypoint: list[str] | None


class Builds:
    """Builds of sandboxes and of snapshots, a few at once.

    Their logs have the id of what they make.
    """

    def __init__(
        self,
        register: Register,
        runtime: Runtime,
        storage: Storage,
        sandboxes: Sandboxes,
        snapshots: Snapshots,
        logs: BuildLogs,
    ) -> None:
        self._register = register
        self._runtime = runtime
        self._storage = storage
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._logs = logs
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    def recover(self) -> None:
        """After a start: logs of what no longer exists are gone."""
        self._logs.keep_only(self._register.ids() | {snapshot.id for snapshot in self._snapshots})

    async def sandbox(self, record: Record, plan: Plan) -> Record:
        """Begin to build a sandbox; its record in `pending_build`. Raises the 409 for its name."""
        record.state, record.dockerfile, record.snapshot = "pending_build", plan.dockerfile, ""
        record.entrypoint = None  # until it is built
        managed = self._register.add(record)
        build = functools.partial(self._build_sandbox, managed, plan)
        managed.build = self._begin(record.id, build)
        return record

    def snapshot(self, snapshot: Snapshot, plan: Plan) -> None:
        """Begin to build a snapshot that was added in `pending`."""
        self._begin(snapshot.id, functools.partial(self._build_snapshot, snapshot, plan))

    def _begin(
        self, build_id: str, build: Callable[[BuildLog], Awaitable[None]]
    ) -> asyncio.Task[None]:
        output = self._logs.open(build_id)

        async def run() -> None:
            try:
                await build(output)
            except Exception:
                log.exception("build %s", build_id)
            finally:
                await self._logs.close(build_id)
                del self._tasks[build_id]

        task = self._tasks[build_id] = asyncio.create_task(run())
        return task

    async def _build_sandbox(self, managed: ManagedSandbox, plan: Plan, output: BuildLog) -> None:
        try:
            async with self._turn:
                await self._sandboxes.set_state(managed, "building_snapshot")
                made = await self._carry_out(managed, plan, output)
                managed.record.image_env, managed.record.work_dir = made.env, made.work_dir
                managed.record.entrypoint = made.entrypoint
                await self._sandboxes.run_built(managed)
        except BaseException as error:  # noqa: BLE001 (raised again when it is ours)
            reason = reason_of(error)
            await output.append(f"{reason}\n".encode())
            await self._sandboxes.fail_build(managed, reason)
            raise_if_ours(error)

    async def _build_snapshot(self, snapshot: Snapshot, plan: Plan, output: BuildLog) -> None:
        """In a sandbox that no list shows, whose storage then is the snapshot's."""
        size = snapshot.resources
        managed = ManagedSandbox(
            Record(snapshot.id, snapshot.name, "", size.cpu, size.memory, size.disk)
        )
        try:
            async with self._turn:
                self._snapshots.change(snapshot, state="building")
                made = await self._carry_out(managed, plan, output)
            await self._runtime.halt(managed)
            self._storage.become_snapshot(snapshot.id, snapshot.id)
            found = {"env": made.env, "work_dir": made.work_dir}
            entrypoint = snapshot.entrypoint or made.entrypoint
            self._snapshots.change(snapshot, state="active", entrypoint=entrypoint, **found)
        except BaseException as error:  # noqa: BLE001 (raised again when it is ours)
            reason = reason_of(error)
            await output.append(f"{reason}\n".encode())
            await self._runtime.halt(managed)
            self._storage.discard(snapshot.id)
            self._snapshots.change(snapshot, state="build_failed", error_reason=reason)
            raise_if_ours(error)
        finally:
            self._storage.empty_trash()

    async def _carry_out(
        self, managed: ManagedSandbox, plan: Plan, output: BuildLog
    ) -> Environment:
        """Make the storage, start it and do every step; raises BuildProblem for one that fails."""
        refuse_unsupported(plan.steps)
        # It may have been deleted while this build waited for its turn.
        base = self._snapshots.usable(plan.base.id)
        with self._snapshots.held(base):
            await self._storage.make(managed.record, base)
        managed.record.image_env = dict(base.env)
        await self._runtime.boot(managed)
        assert managed.toolbox is not None
        made = Environment(dict(base.env), {}, base.work_dir or HOME, base.entrypoint)
        await output.append(f"FROM {base.name}\n".encode())
        for step in plan.steps:
            await output.append(f"{step}\n".encode())
            await self._step(managed.toolbox, step, made, output)
        return made

    async def _step(
        self, toolbox: Toolbox, step: Step, made: Environment, output: BuildLog
    ) -> None:
        known = toolbox.environment({**made.arguments, **made.env})
        if step.word == "RUN":
            await self._run(toolbox, step, program(step), made, output)
        elif step.word == "ENV":
            add_variables(step, made.env, known)
        elif step.word == "ARG":
            add_variables(step, made.arguments, known)
        elif step.word == "WORKDIR":
            wanted = filled(step, step.rest.strip("'\""), known)
            made.work_dir = posixpath.normpath(posixpath.join(made.work_dir, wanted))
            await self._make_folder(toolbox, step, made, output)
        elif step.word == "USER":
            refuse_other_user(step, known)
        elif step.word == "ENTRYPOINT" or (step.word == "CMD" and made.entrypoint is None):
            made.entrypoint = program(step)
        elif step.word in WITHOUT_EFFECT:
            await output.append(b"(no effect)\n")

    async def _make_folder(
        self, toolbox: Toolbox, step: Step, made: Environment, output: BuildLog
    ) -> None:
        argv = ["/bin/mkdir", "-p", "--", made.work_dir]
        try:
            await self._run(toolbox, step, argv, made, output, cwd="/")
        except BuildProblem:
            own = f"a sandbox of local Daytona has folders of its own in {HOME}, /opt and /srv"
            raise step.problem(f"it cannot be made; {own}") from None

    async def _run(
        self,
        toolbox: Toolbox,
        step: Step,
        argv: list[str],
        made: Environment,
        output: BuildLog,
        *,
        cwd: str | None = None,
    ) -> None:
        """Raises BuildProblem unless the program ends with 0; what it left running is ended."""
        variables = toolbox.environment({**made.arguments, **made.env})
        agent, cwd = toolbox.agent, cwd or made.work_dir
        try:
            program = await spawn(agent, argv, environment=variables, cwd=cwd, outputs=MERGED)
        except (FileProblem, SandboxGone, ValueError) as error:
            raise step.problem(getattr(error, "strerror", None) or str(error)) from None
        code = await self._wait(toolbox, program.running, program.outputs[0], output)
        if code is None:
            raise step.problem("it took too long")
        if code != 0:
            raise step.problem(f"exit code {code if code >= 0 else 128 - code}")

    async def _wait(
        self, toolbox: Toolbox, running: RunningProgram, out: int, output: BuildLog
    ) -> int | None:
        """Its exit code, None when it took too long."""
        reader = asyncio.create_task(copied(out, output))
        try:
            return await asyncio.wait_for(asyncio.shield(running.exited), STEP_TIMEOUT_S)
        except asyncio.TimeoutError:
            return None
        finally:
            await toolbox.agent.kill(running)
            await asyncio.wait({reader}, timeout=DRAIN_S)
            await ended(reader)

    async def end(self, build_id: str) -> None:
        """Stop a build, if it runs, and wait until it has cleaned up."""
        await ended(self._tasks.get(build_id))

    async def close(self) -> None:
        """At the server's end: what is being built has failed."""
        for task in list(self._tasks.values()):
            await ended(task)


async def copied(out: int, output: BuildLog) -> None:
    async for chunk in chunks(out):
        await output.append(chunk)


def reason_of(error: BaseException) -> str:
    """What errorReason says."""
    if isinstance(error, asyncio.CancelledError):
        return "the build was stopped"
    known = as_api_error(error)
    if isinstance(known, ApiError):
        return known.message
    if isinstance(error, BuildProblem):
        return str(error)
    return f"local Daytona failed; its log has the reason ({type(error).__name__})"


def raise_if_ours(error: BaseException) -> None:
    """A build that cannot work is no news to the server's log; anything else is."""
    if not isinstance(error, (BuildProblem, ApiError)) and not isinstance(
        as_api_error(error), ApiError
    ):
        raise error
    if isinstance(error, asyncio.CancelledError):
        raise error
