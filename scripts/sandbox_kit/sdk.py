"""The only module that imports the SDK: version gate, cheap import, one AsyncDaytona, its calls and errors as ours.

The asynchronous client is used throughout: the synchronous one sends a toolbox POST up to four times when a connection closes
without an answer, so that a command can run four times (wire-protocol, sections 4.2 and 5).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shlex
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import skill_env

from .failures import Failure
from .options import Policy, Repository
from .settings import Settings
from .translation import translate

if TYPE_CHECKING:
    from daytona import AsyncDaytona, AsyncSandbox

REQUEST_TIMEOUT_S = 60.0
DELETE_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
CLONE_FIXES = {
    401: "a private repository needs --git-token NAME; a public one another address: a host asks for a password where nothing is",
    403: "check whether the sandbox may reach that host (private addresses never), and whether the repository needs --git-token NAME",
    404: "check the address of --repo, and --branch or --commit",
    409: "the sandbox has a folder `repo` already: remove it, or use another sandbox",
    502: "check the address of --repo, and whether the sandbox may reach that host",
}
TRANSFER_TIMEOUT_S = 1800.0
TOKEN_USER = "x-access-token"  # noqa: S105  a user's name: what GitHub wants beside an app's token; with personal tokens every git host takes any name
# A `.env` in the working directory may not switch these on: it is often a stranger's repository.
FORCED = {"DAYTONA_OTEL_ENABLED": "false", "DAYTONA_EXPERIMENTAL_OTEL_ENABLED": "false"}
DEFAULTED = {"DAYTONA_USE_DEPRECATED_POLLING": "false", "DAYTONA_HAPPY_EYEBALLS_DELAY": "0.25"}


@dataclass(frozen=True)
class CreateSpec:
    """What a sandbox shall be; sizes in GiB, times in minutes."""

    name: str
    labels: Mapping[str, str]
    ephemeral: bool
    auto_stop_min: int
    ttl_min: int
    language: str = "python"
    snapshot: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    target: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)  # variable -> name in the vault
    policy: Policy = field(default_factory=Policy)
    public: bool = False


@dataclass(frozen=True)
class SandboxInfo:
    """What is known of a sandbox, as lists show it; memory and disk in GiB."""

    id: str
    name: str
    state: str
    created_at: str | None
    expires_at: str | None
    labels: dict[str, str] = field(default_factory=dict)
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class CodeRun:
    """What code_run gave: both streams in one text, and the charts as base64 PNG."""

    exit_code: int
    output: str
    charts: tuple[str, ...]


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Whatever the SDK raises in the block as a Failure; cancellation passes."""
    try:
        yield
    except Exception as error:
        raise translate(error, doing) from error


def require_sdk() -> None:
    """Raises Failure sdk_missing or sdk_version, by package metadata."""
    import sys

    problem = skill_env.problem(sys.path)
    if problem is not None:
        raise Failure(problem.kind, str(problem), fix=problem.fix)


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Import under a paused garbage collector and freeze what came: a quarter of the import's time (performance, section 2)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


class Caught(Exception):
    """The request was caught before it was sent."""


class Handle:
    """One sandbox of the SDK, by the calls that the scripts make."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    @property
    def info(self) -> SandboxInfo:
        return info_of(self._sandbox)

    async def start(self, timeout_s: float) -> None:
        with translated("starting the sandbox"):
            await self._sandbox.start(timeout=timeout_s)

    async def delete(self) -> None:
        """Ask for the deletion; returns when the server accepted it."""
        with translated("deleting the sandbox"):
            await self._sandbox.delete(timeout=DELETE_TIMEOUT_S)

    async def make_private_folder(self, path: str) -> None:
        with translated("preparing the run"):
            await self._sandbox.fs.create_folder(path, "700", request_timeout=REQUEST_TIMEOUT_S)

    async def upload(self, files: Mapping[str, bytes]) -> None:
        """All in one request, by path inside."""
        from daytona import FileUpload

        with translated("uploading"):
            await self._sandbox.fs.upload_files([FileUpload(source=data, destination=path) for path, data in files.items()], timeout=300)

    async def remove_folder(self, path: str) -> None:
        with translated("removing the run's files"):
            await self._sandbox.fs.delete_file(path, recursive=True, request_timeout=REQUEST_TIMEOUT_S)

    async def has_file(self, path: str) -> bool:
        try:
            with translated("looking for a file"):
                await self._sandbox.fs.get_file_info(path, request_timeout=REQUEST_TIMEOUT_S)
        except Failure as failure:
            if failure.kind == "not_found":
                return False
            raise
        return True

    async def has_folder(self, path: str) -> bool:
        try:
            with translated("looking for a folder"):
                return bool((await self._sandbox.fs.get_file_info(path, request_timeout=REQUEST_TIMEOUT_S)).is_dir)
        except Failure as failure:
            if failure.kind == "not_found":
                return False
            raise

    async def clone(self, repo: Repository, path: str) -> None:
        """The token travels in the request's body, for this one call; raises Failure, whose fix is about the repository."""
        user = TOKEN_USER if repo.token else None
        try:
            with translated("cloning"):
                await self._sandbox.git.clone(
                    repo.url, path, branch=repo.branch, commit_id=repo.commit, depth=repo.depth, username=user, password=repo.token
                )
        except Failure as failure:
            failure.fix = CLONE_FIXES.get(502 if failure.status == 500 else failure.status or 0, failure.fix)
            raise

    async def upload_file(self, path: str, destination: str) -> None:
        """A file of this machine, streamed."""
        with translated("uploading"):
            await self._sandbox.fs.upload_file(path, destination, int(TRANSFER_TIMEOUT_S))

    async def download_file(self, path: str, target: IO[bytes], *, limit: int) -> None:
        """Write a file of the sandbox to `target`, at most `limit` bytes; raises Failure archive for a longer one."""
        size = 0
        with translated("downloading"):
            async for chunk in await self._sandbox.fs.download_file_stream(path, timeout=int(TRANSFER_TIMEOUT_S)):
                size += len(chunk)
                if size > limit:
                    raise Failure("archive", f"the sandbox sent more than {limit >> 20} MB", fix="fetch less, or by parts")
                target.write(chunk)

    async def exec(self, command: str, *, timeout_s: int) -> tuple[int, str]:
        """Run one of our own short commands with a plain sh; its exit code and merged output."""
        with translated("working in the sandbox"):
            answer = await self._sandbox.process.exec(f"exec sh -c {shlex.quote(command)} </dev/null", timeout=timeout_s)
        return int(answer.exit_code), str(answer.result or "")

    async def run_code(self, code: str, *, arguments: Sequence[str], env: Mapping[str, str], timeout_s: int) -> CodeRun:
        """By code_run: the only call that brings matplotlib's charts back."""
        from daytona import CodeRunParams

        params = CodeRunParams(argv=list(arguments), env=dict(env))
        with translated("running the code"):
            answer = await self._sandbox.process.code_run(code, params, timeout=timeout_s)
        found = (answer.artifacts.charts if answer.artifacts else None) or []
        return CodeRun(int(answer.exit_code), str(answer.result or ""), tuple(chart.png for chart in found if chart.png))

    async def restrict(self, policy: Policy) -> None:
        """Apply a network policy and read it back; raises Failure tier_network when the server refused or ignored it."""
        with translated("restricting the network"):
            await self._sandbox.update_network_settings(**network_settings(policy), request_timeout=REQUEST_TIMEOUT_S)
            await self._sandbox.refresh_data(request_timeout=REQUEST_TIMEOUT_S)
        self.require(policy)

    def require(self, policy: Policy) -> None:
        """What the server says of this sandbox's network must be what was asked for; raises Failure tier_network."""
        wanted = network_settings(policy)
        found = {name: getattr(self._sandbox, name, None) for name in wanted}
        if {name: comparable(value) for name, value in found.items()} != {name: comparable(value) for name, value in wanted.items()}:
            raise Failure("tier_network", f"the server did not apply the network rule ({policy.describe()}); the program was not run")

    async def signed_preview_url(self, port: int, seconds: int) -> str:
        with translated("making a preview link"):
            found = await self._sandbox.create_signed_preview_url(port, seconds, request_timeout=REQUEST_TIMEOUT_S)
        return str(found.url)

    async def preview_url(self, port: int) -> str:
        with translated("making a preview link"):
            return str((await self._sandbox.get_preview_link(port, request_timeout=REQUEST_TIMEOUT_S)).url)

    async def make_public(self) -> None:
        with translated("opening the previews"):
            await self._sandbox.set_public(True, request_timeout=REQUEST_TIMEOUT_S)

    async def stop(self) -> None:
        with translated("stopping the sandbox"):
            await self._sandbox.stop(timeout=STOP_TIMEOUT_S)

    async def commands(self) -> list[tuple[str, str, int | None]]:
        """(session, command, exit code or None) of every command of every session, oldest first."""
        with translated("looking for programs"):
            sessions = await self._sandbox.process.list_sessions(request_timeout=REQUEST_TIMEOUT_S)
        return [(session.session_id, str(found.id), found.exit_code) for session in sessions for found in session.commands or []]

    async def create_session(self, session: str) -> None:
        with translated("starting the program"):
            await self._sandbox.process.create_session(session, request_timeout=REQUEST_TIMEOUT_S)

    async def start_command(self, session: str, command: str) -> str:
        """Run in the background of the session; the command's id."""
        from daytona import SessionExecuteRequest

        with translated("starting the program"):
            request = SessionExecuteRequest(command=command, run_async=True)
            answer = await self._sandbox.process.execute_session_command(session, request, timeout=int(REQUEST_TIMEOUT_S))
        if not answer.cmd_id:
            raise Failure("server_error", "the server started the program without an id for it")
        return str(answer.cmd_id)

    async def follow(self, session: str, command: str, out: Callable[[str], None], err: Callable[[str], None]) -> None:
        """Both streams from their start, until the server ends them."""
        with translated("reading the output"):
            await self._sandbox.process.get_session_command_logs_async(session, command, out, err)

    async def logs(self, session: str, command: str) -> tuple[str, str]:
        """Both streams as far as they are."""
        with translated("reading the output"):
            logs = await self._sandbox.process.get_session_command_logs(session, command, request_timeout=REQUEST_TIMEOUT_S)
        return logs.stdout or "", logs.stderr or ""

    async def exit_code(self, session: str, command: str) -> int | None:
        """None while it runs."""
        with translated("asking for the exit code"):
            found = await self._sandbox.process.get_session_command(session, command, request_timeout=REQUEST_TIMEOUT_S)
        return None if found.exit_code is None else int(found.exit_code)

    async def delete_session(self, session: str) -> None:
        """Kills the program and everything that it started."""
        with translated("ending the program"):
            await self._sandbox.process.delete_session(session, request_timeout=REQUEST_TIMEOUT_S)

    async def refresh_activity(self) -> None:
        with translated("keeping the sandbox awake"):
            await self._sandbox.refresh_activity()


class Client:
    """One AsyncDaytona; open it with `async with Client.open(settings) as client`."""

    def __init__(self, daytona: AsyncDaytona) -> None:
        self._daytona = daytona

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Client]:
        """Import the SDK and connect to nothing yet; raises Failure."""
        require_sdk()
        prepare_environment(settings)
        with warnings.catch_warnings(), translated("preparing the SDK"):
            warnings.simplefilter("ignore")
            with paused_collector():
                from daytona import AsyncDaytona, DaytonaConfig
            leave_sigint_alone()
            config = DaytonaConfig(
                api_key=settings.api_key, jwt_token=settings.jwt_token, organization_id=settings.organization_id,
                api_url=settings.endpoint, target=settings.target, otel_enabled=False,
            )  # fmt: skip
            daytona = AsyncDaytona(config)
        try:
            yield cls(daytona)
        finally:
            with contextlib.suppress(Exception):
                await daytona.close()  # type: ignore[no-untyped-call]  # the SDK left it unannotated

    async def create(self, spec: CreateSpec, *, timeout_s: float, on_build_log: Callable[[str], None]) -> Handle:
        """Create and wait until it is started; raises Failure, whose sandbox_id tells what exists already."""
        with translated("creating the sandbox"):
            sandbox = await self._daytona.create(
                parameters(spec), timeout=timeout_s, on_snapshot_create_logs=on_build_log if spec.image else None
            )
        return Handle(sandbox)

    async def get(self, id_or_name: str) -> Handle:
        with translated(f"looking for sandbox {id_or_name}"):
            return Handle(await self._daytona.get(id_or_name, request_timeout=REQUEST_TIMEOUT_S))

    async def list(self, labels: Mapping[str, str], *, page: int = 100) -> AsyncIterator[SandboxInfo]:
        """Sandboxes that carry all of `labels`, by the server's filter."""
        from daytona import ListSandboxesQuery

        with translated("listing sandboxes"):
            async for sandbox in self._daytona.list(ListSandboxesQuery(labels=dict(labels), limit=page)):
                yield info_of(sandbox)

    async def request_of(self, spec: CreateSpec) -> dict[str, Any]:
        """The body that `create` would send, made by the SDK itself and caught before it leaves."""
        caught: dict[str, Any] = {}

        async def catch(request: Any, **_options: Any) -> Any:
            caught.update(request.to_dict())
            raise Caught

        self._daytona._sandbox_api.create_sandbox = catch  # type: ignore[method-assign,assignment]  # noqa: SLF001
        with contextlib.suppress(Exception):
            await self._daytona.create(parameters(spec))
        if not caught:
            raise Failure("sdk_version", "the SDK's create cannot be looked into any more")
        return caught

    async def ping(self) -> None:
        """One authenticated request, the same whatever the account holds; raises Failure."""
        from daytona import ListSandboxesQuery

        with translated("asking the server"):
            async for _ in self._daytona.list(ListSandboxesQuery(limit=1)):
                return


def prepare_environment(settings: Settings) -> None:
    """What the SDK and its libraries read from the process: no telemetry, no chatter, no proxy in front of loopback."""
    os.environ.update(FORCED)
    for name, value in DEFAULTED.items():
        os.environ.setdefault(name, value)
    if settings.engine == "local":
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    for name in ("asyncio", "aiohttp", "socketio", "engineio", "daytona", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def leave_sigint_alone() -> None:
    """engineio, below the SDK, would replace our SIGINT handler at its first connect; this is its own "already done" flag."""
    import engineio.async_client  # type: ignore[import-untyped]  # ships no types

    engineio.async_client.async_signal_handler_set = True


def parameters(spec: CreateSpec) -> Any:
    """The SDK's create parameters. It drops unknown keywords silently, so every name here is pinned by a test."""
    from daytona import CreateSandboxFromImageParams, CreateSandboxFromSnapshotParams, Resources

    common: dict[str, Any] = {
        "name": spec.name,
        "labels": dict(spec.labels),
        "language": spec.language,
        "auto_stop_interval": spec.auto_stop_min,
        "ttl_minutes": spec.ttl_min,
        "ephemeral": True if spec.ephemeral else None,
        "public": True if spec.public else None,
        "secrets": dict(spec.secrets) or None,
        "target": spec.target,
        **(network_settings(spec.policy) if spec.policy else {}),
    }
    if spec.image is None:
        return CreateSandboxFromSnapshotParams(snapshot=spec.snapshot, **common)
    sized = any((spec.cpu, spec.memory, spec.disk))
    resources = Resources(cpu=spec.cpu, memory=spec.memory, disk=spec.disk) if sized else None
    return CreateSandboxFromImageParams(image=spec.image, resources=resources, **common)


def network_settings(policy: Policy) -> dict[str, Any]:
    """One of the three, as the SDK names them: Daytona takes no two together."""
    if policy.domains:
        return {"domain_allow_list": ",".join(policy.domains)}
    if policy.cidrs:
        return {"network_allow_list": ",".join(policy.cidrs)}
    return {"network_block_all": policy.block_all}


def comparable(value: Any) -> Any:
    """A list as the server may have sorted or spaced it."""
    return sorted(part.strip().lower() for part in value.split(",")) if isinstance(value, str) else value


def info_of(sandbox: Any) -> SandboxInfo:
    state = getattr(sandbox.state, "value", sandbox.state)
    return SandboxInfo(
        id=sandbox.id, name=sandbox.name, state=str(state), created_at=text_of(sandbox.created_at),
        expires_at=text_of(getattr(sandbox, "auto_destroy_at", None)), labels=dict(sandbox.labels or {}),
        cpu=getattr(sandbox, "cpu", None), memory=getattr(sandbox, "memory", None), disk=getattr(sandbox, "disk", None),
    )  # fmt: skip


def text_of(moment: Any) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else (str(moment) if moment else None)
