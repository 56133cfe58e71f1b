"""One sandbox: its life, its files, its programs. Every call either returns or raises a Failure."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..checked import checked_exit_code, checked_id, checked_link
from ..errors import Failure
from ..network_rule import NetworkRule
from ..request import Repository
from .loading import translating_errors
from .log_body import LogBody
from .session_log import Demultiplexer
from .types import (
    SandboxInfo,
    SessionCommand,
    info_of,
    network_of,
    network_settings,
    state_of,
)

if TYPE_CHECKING:
    from .generated import Sandbox as SandboxModel
    from .terminal import Terminal, TerminalSize
    from .transport import Toolbox, Transport

REQUEST_TIMEOUT_S = 60.0
DELETE_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
UPLOAD_TIMEOUT_S = 300.0
CLONE_TIMEOUT_S = 600.0
TRANSFER_TIMEOUT_S = 1800.0
HTTP_GRACE_S = 5.0  # for the answer to a command that the server ends in time
FIRST_PAUSE_S, LONGEST_PAUSE_S, GROWTH = 0.1, 1.0, 1.5
FAILED = {"error", "build_failed"}
GONE = {"destroyed", "destroying"}
AT_REST = {"started", "stopped", "archived", *GONE}
CLONE_FIXES = {
    401: (
        "a private repository needs --git-token NAME; a public one another address:"
        " a host asks for a password where nothing is"
    ),
    403: (
        "check whether the sandbox may reach that host (private addresses never),"
        " and whether the repository needs --git-token NAME"
    ),
    404: "check the address of --repo, and --branch or --commit",
    409: "the sandbox has a folder `repo` already: remove it, or use another sandbox",
    502: "check the address of --repo, and whether the sandbox may reach that host",
}
# What GitHub wants beside an app's token; with personal tokens every git host takes any name.
TOKEN_USER = "x-access-token"  # noqa: S105  a user's name


def require_sandbox(sandbox: SandboxModel | None) -> SandboxModel:
    """The sandbox of an answer; raises Failure server_error when there is none, or with a bad id.

    The generated clients make None of a status that they do not know, and of `null`; there may be
    a sandbox all the same.
    """
    if sandbox is None:
        raise Failure("server_error", "the server answered without a sandbox")
    checked_id(sandbox.id)
    return sandbox


class EndedInError(Exception):
    """The sandbox will not come to the state that was waited for; worded as the SDK does."""


class Sandbox:
    """One sandbox, by the calls that the scripts make."""

    def __init__(self, transport: Transport, model: SandboxModel) -> None:
        self._transport = transport
        self._model = model
        self._toolbox: Toolbox | None = None

    @property
    def info(self) -> SandboxInfo:
        return info_of(self._model)

    async def start(self, timeout_s: float) -> None:
        """And wait until it is started."""
        with translating_errors("starting the sandbox"):
            self._take(
                require_sandbox(
                    await self._transport.sandboxes.start_sandbox(
                        self._model.id, _request_timeout=timeout_s
                    )
                )
            )
            await asyncio.wait_for(self._wait({"started"}, FAILED | GONE), timeout_s)

    async def recover(self, timeout_s: float) -> None:
        """Start one that ended in error again, with its files, and wait until it is started."""
        with translating_errors("recovering the sandbox"):
            self._take(
                require_sandbox(
                    await self._transport.sandboxes.recover_sandbox(
                        self._model.id, _request_timeout=timeout_s
                    )
                )
            )
            await asyncio.wait_for(self._wait({"started"}, FAILED | GONE), timeout_s)

    async def set_ttl(self, minutes: int) -> None:
        """Its life from now on; and read back."""
        with translating_errors("setting the sandbox's ttl"):
            await self._transport.sandboxes.set_ttl(
                self._model.id, minutes, _request_timeout=REQUEST_TIMEOUT_S
            )
            await self._refresh()

    async def set_auto_stop(self, minutes: int) -> None:
        """Idle minutes until it is stopped, 0 for never; and read back."""
        with translating_errors("setting the sandbox's auto-stop"):
            await self._transport.sandboxes.set_autostop_interval(
                self._model.id, minutes, _request_timeout=REQUEST_TIMEOUT_S
            )
            await self._refresh()

    async def wait_for_start(self) -> None:
        """After a create; without a limit of its own."""
        with translating_errors("creating the sandbox"):
            await self._wait({"started"}, FAILED | GONE)

    async def save_as(self, name: str, *, timeout_s: float) -> None:
        """Make a snapshot of it, and wait until it is as it was before."""
        from daytona_api_client_async.models.create_sandbox_snapshot import CreateSandboxSnapshot

        with translating_errors("making the snapshot"):
            self._take(
                require_sandbox(
                    await self._transport.sandboxes.create_sandbox_snapshot(
                        self._model.id,
                        CreateSandboxSnapshot(name=name),
                        _request_timeout=timeout_s,
                    )
                )
            )
            await asyncio.wait_for(self._wait(AT_REST, FAILED), timeout_s)

    async def stop(self) -> None:
        """And wait until it is stopped; an ephemeral sandbox is gone then."""
        try:
            with translating_errors("stopping the sandbox"):
                self._take(
                    require_sandbox(
                        await self._transport.sandboxes.stop_sandbox(
                            self._model.id, force=False, _request_timeout=STOP_TIMEOUT_S
                        )
                    )
                )
                await asyncio.wait_for(self._wait({"stopped", "destroyed"}, FAILED), STOP_TIMEOUT_S)
        except Failure as failure:
            if failure.kind != "not_found":
                raise

    async def delete(self) -> None:
        """Ask for the deletion; returns when the server accepted it."""
        with translating_errors("deleting the sandbox"):
            await self._transport.sandboxes.delete_sandbox(
                self._model.id, _request_timeout=DELETE_TIMEOUT_S
            )

    async def _wait(self, wanted: set[str], failed: set[str]) -> None:
        """By asking again; a server that is ready when it answers, as Daytona mostly is, is not."""
        pause = FIRST_PAUSE_S
        while (state := state_of(self._model)) not in wanted:
            if state in failed:
                reason = self._model.error_reason
                raise EndedInError(
                    f"Sandbox {checked_id(self._model.id)} entered error state: {state},"
                    f" error reason: {reason}"
                )
            await asyncio.sleep(pause)
            pause = min(pause * GROWTH, LONGEST_PAUSE_S)
            await self._refresh()

    async def refresh(self) -> None:
        """What the server says of it now."""
        with translating_errors("looking at the sandbox"):
            await self._refresh()

    async def _refresh(self) -> None:
        found = require_sandbox(
            await self._transport.sandboxes.get_sandbox(
                self._model.id, _request_timeout=REQUEST_TIMEOUT_S
            )
        )
        self._take(found)

    def _take(self, found: SandboxModel) -> None:
        """The sandbox as it is now; raises Failure server_error for another one."""
        if found.id != self._model.id:
            raise Failure(
                "server_error",
                f"the server answered for sandbox {self._model.id} with another one",
            )
        self._model = found

    async def _tools(self) -> Toolbox:
        if self._toolbox is None:
            url = self._model.toolbox_proxy_url
            if not url:
                found = await self._transport.sandboxes.get_toolbox_proxy_url(
                    self._model.id, _request_timeout=REQUEST_TIMEOUT_S
                )
                url = found.url
            self._toolbox = self._transport.toolbox(checked_link(url), checked_id(self._model.id))
        return self._toolbox

    async def make_private_folder(self, path: str) -> None:
        with translating_errors("preparing the run"):
            await (await self._tools()).files.create_folder(
                path, "700", _request_timeout=REQUEST_TIMEOUT_S
            )

    async def upload(self, files: Mapping[str, bytes]) -> None:
        """All in one request, by path inside."""
        with translating_errors("uploading"):
            await (await self._tools()).upload(files, timeout_s=UPLOAD_TIMEOUT_S)

    async def upload_file(self, path: str, destination: str) -> None:
        """A file of this machine, streamed."""
        # Opening a local file takes no time.
        with translating_errors("uploading"), Path(path).open("rb") as file:  # noqa: ASYNC230
            await (await self._tools()).upload({destination: file}, timeout_s=TRANSFER_TIMEOUT_S)

    async def download_file(self, path: str, target: IO[bytes], *, limit: int) -> None:
        """Write a file of the sandbox to `target`, at most `limit` bytes.

        Raises Failure archive for a longer one.
        """
        size = 0

        def take(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            if size > limit:
                raise Failure(
                    "archive",
                    f"the sandbox sent more than {limit >> 20} MB",
                    fix="fetch less, or by parts",
                )
            target.write(chunk)

        with translating_errors("downloading"):
            await (await self._tools()).download(path, take, timeout_s=TRANSFER_TIMEOUT_S)
            target.flush()  # a full disk here is known before the next step

    async def remove_folder(self, path: str) -> None:
        with translating_errors("removing the run's files"):
            await (await self._tools()).files.delete_file(
                path, recursive=True, _request_timeout=REQUEST_TIMEOUT_S
            )

    async def has_file(self, path: str) -> bool:
        return await self._is_folder(path) is not None

    async def has_folder(self, path: str) -> bool:
        return bool(await self._is_folder(path))

    async def _is_folder(self, path: str) -> bool | None:
        """None when nothing is there."""
        try:
            with translating_errors("looking for a file"):
                return bool(
                    (
                        await (await self._tools()).files.get_file_info(
                            path, _request_timeout=REQUEST_TIMEOUT_S
                        )
                    ).is_dir
                )
        except Failure as failure:
            if failure.kind == "not_found":
                return None
            raise

    async def clone(self, repo: Repository, path: str) -> None:
        """Clone a repository; raises Failure, whose fix is about the repository.

        A token travels in the request's body, for this one call.
        """
        from daytona_toolbox_api_client_async.api.git_api import GitApi
        from daytona_toolbox_api_client_async.models.git_clone_request import GitCloneRequest

        request = GitCloneRequest(
            url=repo.url,
            path=path,
            branch=repo.branch,
            commit_id=repo.commit,
            depth=repo.depth,
            username=TOKEN_USER if repo.token else None,
            password=repo.token,
        )
        try:
            with translating_errors("cloning"):
                await GitApi((await self._tools()).api).clone_repository(
                    request, _request_timeout=CLONE_TIMEOUT_S
                )
        except Failure as failure:
            status = 502 if failure.status == 500 else failure.status or 0
            raise failure.replaced(fix=CLONE_FIXES.get(status)) from failure.__cause__

    async def exec(self, command: str, *, timeout_s: int) -> tuple[int, str]:
        """Run one of our own short commands with a plain sh; its exit code and merged output."""
        from .generated import ExecuteRequest

        request = ExecuteRequest(
            command=f"exec sh -c {shlex.quote(command)} </dev/null", timeout=timeout_s
        )
        with translating_errors("working in the sandbox"):
            answer = await (await self._tools()).process.execute_command(
                request, _request_timeout=timeout_s + HTTP_GRACE_S
            )
        return checked_exit_code(answer.exit_code), str(answer.result or "")

    async def restrict(self, rule: NetworkRule) -> None:
        """Apply a network rule and read it back.

        Raises Failure tier_network when the server refused or ignored it.
        """
        from .generated import UpdateSandboxNetworkSettings

        body = UpdateSandboxNetworkSettings(**network_settings(rule))
        with translating_errors("restricting the network"):
            await self._transport.sandboxes.update_network_settings(
                self._model.id, body, _request_timeout=REQUEST_TIMEOUT_S
            )
            await self._refresh()
        self.require(rule)

    def require(self, rule: NetworkRule) -> None:
        """Raises Failure tier_network unless the server says that this network rule holds."""
        if network_of(self._model).normalized() != rule.normalized():
            raise Failure(
                "tier_network",
                f"the server did not apply the network rule ({rule.describe()});"
                " the program was not run",
            )

    async def signed_preview_url(self, port: int, seconds: int) -> str:
        with translating_errors("making a preview link"):
            found = await self._transport.sandboxes.get_signed_port_preview_url(
                self._model.id,
                port,
                expires_in_seconds=seconds,
                _request_timeout=REQUEST_TIMEOUT_S,
            )
        return checked_link(found.url)

    async def preview_url(self, port: int) -> str:
        with translating_errors("making a preview link"):
            found = await self._transport.sandboxes.get_port_preview_url(
                self._model.id, port, _request_timeout=REQUEST_TIMEOUT_S
            )
        return checked_link(found.url)

    async def set_public(self, public: bool) -> None:
        """Open every port to everybody, or no longer."""
        with translating_errors("opening the previews" if public else "closing the previews"):
            await self._transport.sandboxes.update_public_status(
                self._model.id, public, _request_timeout=REQUEST_TIMEOUT_S
            )
            await self._refresh()

    async def add_labels(self, labels: Mapping[str, str]) -> None:
        """Beside those that it has, which the call would replace; and read back."""
        from daytona_api_client_async.models.sandbox_labels import SandboxLabels

        with translating_errors("labelling the sandbox"):
            wanted = {**(self._model.labels or {}), **labels}
            await self._transport.sandboxes.replace_labels(
                self._model.id, SandboxLabels(labels=wanted), _request_timeout=REQUEST_TIMEOUT_S
            )
            await self._refresh()

    async def commands(self) -> list[SessionCommand]:
        """Every command of every session, in no order: the daemon lists them from a map."""
        with translating_errors("looking for programs"):
            sessions = await (await self._tools()).process.list_sessions(
                _request_timeout=REQUEST_TIMEOUT_S
            )
        return [
            SessionCommand(
                session=checked_id(session.session_id),
                id=checked_id(found.id),
                text=str(found.command or ""),
                exit_code=None if found.exit_code is None else checked_exit_code(found.exit_code),
            )
            for session in sessions
            for found in session.commands or []
        ]

    async def create_session(self, session: str) -> None:
        from .generated import CreateSessionRequest

        with translating_errors("starting the program"):
            request = CreateSessionRequest(session_id=session)
            await (await self._tools()).process.create_session(
                request, _request_timeout=REQUEST_TIMEOUT_S
            )

    async def start_command(self, session: str, command: str) -> str:
        """Run in the background of the session; the command's id."""
        from .generated import SessionExecuteRequest

        with translating_errors("starting the program"):
            request = SessionExecuteRequest(command=command, run_async=True)
            answer = await (await self._tools()).process.session_execute_command(
                session, request, _request_timeout=REQUEST_TIMEOUT_S
            )
        if not answer.cmd_id:
            raise Failure("server_error", "the server started the program without an id for it")
        return checked_id(answer.cmd_id)

    @contextlib.asynccontextmanager
    async def open_terminal(self, size: TerminalSize) -> AsyncIterator[Terminal]:
        """A shell on a terminal of its own, which ends with the block."""
        from .terminal import Terminal

        terminal_id = f"shell-{uuid.uuid4().hex[:8]}"
        with translating_errors("opening a terminal"):
            toolbox = await self._tools()
            socket = await toolbox.connect_terminal(terminal_id, size)
        try:
            yield Terminal(toolbox, terminal_id, socket)
        finally:
            await socket.close()
            with contextlib.suppress(Failure), translating_errors("ending the terminal"):
                await toolbox.process.delete_pty_session(
                    terminal_id, _request_timeout=REQUEST_TIMEOUT_S
                )

    async def follow(
        self, session: str, command: str, out: Callable[[str], None], err: Callable[[str], None]
    ) -> None:
        """Both streams from their start, until the server ends them."""
        streams = Demultiplexer(out, err)
        with translating_errors("reading the output"):
            try:
                await (await self._tools()).follow(
                    f"/process/session/{session}/command/{command}/logs?follow=true", streams.feed
                )
            finally:
                streams.close()

    async def logs(
        self, session: str, command: str, out: Callable[[str], None], err: Callable[[str], None]
    ) -> None:
        """Both streams as far as they are, part by part: `out` and `err` must not hold a log."""
        body = LogBody({"stdout": out, "stderr": err})
        with translating_errors("reading the output"):
            await (await self._tools()).read_log(
                f"/process/session/{session}/command/{command}/logs",
                body.feed,
                timeout_s=TRANSFER_TIMEOUT_S,
            )
            body.finish()

    async def exit_code(self, session: str, command: str) -> int | None:
        """None while it runs."""
        with translating_errors("asking for the exit code"):
            found = await (await self._tools()).process.get_session_command(
                session, command, _request_timeout=REQUEST_TIMEOUT_S
            )
        return None if found.exit_code is None else checked_exit_code(found.exit_code)

    async def delete_session(self, session: str) -> None:
        """Kills the program and everything that it started."""
        with translating_errors("ending the program"):
            await (await self._tools()).process.delete_session(
                session, _request_timeout=REQUEST_TIMEOUT_S
            )

    async def refresh_activity(self) -> None:
        with translating_errors("keeping the sandbox awake"):
            await self._transport.sandboxes.update_last_activity(
                self._model.id, _request_timeout=REQUEST_TIMEOUT_S
            )
