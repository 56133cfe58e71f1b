"""sandboxes.py: find, watch and delete what this skill made for this user, by its labels.

Nobody else's sandbox is touched unless adopted.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import skill_env

from .archive.worker import fetch_in_worker
from .console import LONGEST_LINE, one_line, quote_path, write_quietly
from .deadlines import is_longer
from .errors import TIMED_OUT, Failure, UsageFailure, as_failure, with_local_fix
from .host_access.held import is_a_run
from .interrupts import run_interruptibly
from .lease import delete_until_accepted
from .made_record import Kind
from .made_verbs import MadeVerbs
from .output import OutputStream
from .ownership import MANAGED_BY, MANAGER, RUN_ID, YOURS, User, owner_of, require_yours, this_user
from .plain_text import strip_controls
from .remote_process import exit_code_by_now, find_program, is_ours, keep_awake
from .request import SandboxesRequest
from .sandbox_end import BROKEN, STARTED, SandboxEnd, find_end, may_be_an_end
from .sandbox_fetch import fetch_from_sandbox
from .sdk import Client, Sandbox, SandboxInfo, SessionCommand
from .settings import Settings, local_settings, settings_from_environment
from .shell import run_shell
from .status_log import StatusLog

POLL_S = 1.0
# What it acted on, the exit code, and what more the JSON has.
Verb = Callable[[Client], Awaitable[tuple[list[SandboxInfo], int, dict[str, Any]]]]
MOST_PARTS = 9  # of a line of a listing
MOST_LOOKED_INTO = 20  # sandboxes of a list whose programs are asked for
BILL = "https://app.daytona.io/dashboard/billing"


def run_verb(request: SandboxesRequest) -> int:
    """Do it and show it; the exit code. Raises Failure."""
    status = StatusLog()
    verbs = SandboxVerbs(request, status)

    async def act() -> int:
        return await run_interruptibly(
            verbs.act(), tell=status.tell, on_overdue=lambda failure: status.tell(failure.message)
        )

    try:
        return asyncio.run(act())
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line and a fix
        if request.debug:
            status.trace(error)
        failure = as_failure(error)
        failure = failure.replaced(message=status.show(failure.message))
        raise (with_local_fix(failure) if request.local else failure) from None


class SandboxVerbs:
    """One call of sandboxes.py."""

    def __init__(self, request: SandboxesRequest, status: StatusLog) -> None:
        self._request = request
        self._status = status
        self._user = this_user()
        self._secrets: tuple[str, ...] = ()
        self._settings = Settings.nowhere()
        self._runs: dict[str, list[str]] = {}  # by sandbox, where it was asked for

    async def act(self) -> int:
        """The exit code; raises Failure."""
        if self._request.action == "fetch" and is_a_run(self._request.run_id):
            return self._show_fetched(await self._fetch_held())
        settings = (
            await asyncio.to_thread(local_settings)
            if self._request.local
            else settings_from_environment()
        )
        self._secrets = settings.secrets
        self._status.hide(self._secrets)
        self._status.tell(f"engine: {settings.describe()}")
        self._settings = settings
        async with Client.open(settings) as client:
            found, code, more = await self._verbs()[self._request.action](client)
        answer = {
            "engine": settings.engine,
            "sandboxes": [
                {**sandbox_as_json(info, self._user), "runs": self._runs.get(info.id)}
                for info in found
            ],
            "error": None,
            **more,
        }
        if self._request.json:
            write_quietly(sys.stdout, json.dumps(answer) + "\n")
        return code

    def _verbs(self) -> dict[str, Verb]:
        return {
            "list": self._list,
            "info": self._info,
            "logs": self._logs,
            "wait": self._wait,
            "stop": self._stop,
            "delete": self._delete,
            "prune": self._prune,
            "adopt": self._adopt,
            "publish": self._publish,
            "fetch": self._fetch_from_sandbox,
            "extend": self._extend,
            "shell": self._shell,
            "snapshot": self._snapshot,
            "snapshots": self._snapshots,
            "volumes": self._volumes,
        }

    async def _list(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        found = await list_managed(client, everything=self._request.all)
        self._runs = await programs_of_all(client, found, self._user)
        if not self._request.json:
            lines = [
                "\t".join((listing_line(info, self._user), self._what_runs(info))) for info in found
            ]
            for line in aligned(lines) if sys.stdout.isatty() else lines:
                print_listing(line)
            if not found:
                self._status.say("none")
        if self._request.all and self._settings.engine == "cloud":
            self._status.say(f"what it costs: {BILL}")
        return found, 0, {}

    def _what_runs(self, info: SandboxInfo) -> str:
        runs = self._runs.get(info.id)
        return "" if runs is None else ", ".join(runs) or "runs nothing of these scripts"

    async def _info(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        sandbox = await client.get(self._request.targets[0])
        info, runs = sandbox.info, await running_programs(sandbox, self._user)
        self._runs = {info.id: runs}
        if not self._request.json:
            for name, value in {
                **asdict(info),
                "network": info.network.describe(),
                "whose": owner_of(info.labels, self._user),
            }.items():
                text = (
                    ", ".join(f"{key}={found}" for key, found in value.items())
                    if isinstance(value, dict)
                    else value
                )
                print_listing(f"{name}: {text}")
            print_listing(f"runs: {', '.join(runs) or 'nothing of these scripts'}")
        size = {"cpu": info.cpu, "memory": info.memory, "disk": info.disk}
        more = {"size": size, "auto_stop_min": info.auto_stop_min}
        return [info], 0, {**more, "error_reason": info.error_reason}

    async def _logs(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """Both streams of what runs on there, or of the last program of a run."""
        sandbox, program = await self._find_program(client)
        code = program.exit_code
        shown: tuple[list[str], list[str]] = ([], [])
        writers = [parts.append for parts in shown]
        if not self._request.json:
            writers = [partial(write_quietly, stream) for stream in (sys.stdout, sys.stderr)]
        out, err = (
            OutputStream(write, limit=self._request.max_output, secrets=self._secrets)
            for write in writers
        )
        await sandbox.logs(program.session, program.id, out.feed, err.feed)
        out.finish()
        err.finish()
        if self._request.json:
            texts = ["".join(parts) for parts in shown]
            return [sandbox.info], 0, {"stdout": texts[0], "stderr": texts[1], "exit_code": code}
        self._status.say(
            "the program is still running"
            if code is None
            else f"the program ended with exit code {code}"
        )
        return [sandbox.info], 0, {}

    async def _wait(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """Until it ends; 124 when that takes too long, and it runs on."""
        sandbox, program = await self._find_program(client)
        code = program.exit_code
        awake = asyncio.create_task(keep_awake(sandbox, self._status))
        try:
            with self._status.waiting("waiting"), contextlib.suppress(asyncio.TimeoutError):
                code = await asyncio.wait_for(
                    wait_until_ended(sandbox, program), self._request.timeout_s
                )
            if code is None:  # our clock ran on if this machine slept
                code = await exit_code_by_now(sandbox, program.session, program.id)
        except Failure as failure:
            raise await self._with_its_end(sandbox, failure) from failure
        finally:
            awake.cancel()
        if code is None:
            raise Failure(
                "timeout",
                f"the program still runs after --timeout {self._request.timeout_s} s, and goes on",
                exit_code=TIMED_OUT,
                fix="wait again, or look at sandboxes.py logs",
            )
        self._status.say(f"the program ended with exit code {code}")
        return [sandbox.info], code, {"exit_code": code}

    async def _find_program(self, client: Client) -> tuple[Sandbox, SessionCommand]:
        sandbox = await self._owned(client, self._request.targets[0])
        if sandbox.info.state != STARTED:  # it may be on its way: what it becomes is told
            end = await find_end(sandbox)
            if end is not None:
                raise self._over(end)
        try:
            program = find_program(await sandbox.commands())
        except Failure as failure:
            raise await self._with_its_end(sandbox, failure) from failure
        if program is None:
            raise Failure(
                "not_found",
                f"{strip_controls(sandbox.info.name)} has no program that this skill started",
                fix="run_in_sandbox.py --detach starts one",
            )
        return sandbox, program

    def _over(self, end: SandboxEnd) -> Failure:
        """Why there is no program to look at any more."""
        words = (
            "--sandbox",
            end.info.id,
            "--command",
            "ls -la",
            *["--local"] * self._request.local,
        )
        look = f"its files are kept: {skill_env.command('run_in_sandbox.py', *words)}"
        return Failure(
            "exec_failed" if end.info.state in BROKEN or end.is_gone else "conflict",
            f"{strip_controls(end.info.name)} does not run: {end.describe()};"
            " its programs and their output are gone",
            fix="run it again, with a longer --ttl if that ended it" if end.is_gone else look,
        )

    async def _with_its_end(self, sandbox: Sandbox, failure: Failure) -> Failure:
        """The sandbox's own end, where that is what is behind a failure."""
        end = await find_end(sandbox) if may_be_an_end(failure) else None
        return failure if end is None else self._over(end)

    async def _stop(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        async def stop(sandbox: Sandbox) -> None:
            if sandbox.info.state == "started":
                await sandbox.stop()

        return await self._each(client, stop, "stopped"), 0, {}

    async def _delete(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        async def delete(sandbox: Sandbox) -> None:
            await delete_until_accepted(client, sandbox.info.id)

        return await self._each(client, delete, "deleted"), 0, {}

    async def _each(
        self, client: Client, act: Callable[[Sandbox], Awaitable[None]], done: str
    ) -> list[SandboxInfo]:
        """Act on every target; the first failure is raised after the others were tried."""
        finished, failures = [], []
        for target in self._request.targets:
            try:
                sandbox = await self._owned(client, target)
                await act(sandbox)
            except Failure as failure:
                failures.append(failure)
            else:
                finished.append(sandbox.info)
                self._status.say(f"{done} {strip_controls(target)}")
        for another in failures[1:]:
            self._status.tell(another.message)
        if failures:
            raise failures[0]
        return finished

    async def _delete_if_there(self, client: Client, info: SandboxInfo) -> None:
        try:
            sandbox = await self._owned(client, info.id)
            if sandbox.info.id == info.id:  # a name can look like an id
                await delete_until_accepted(client, info.id)
        except Failure as failure:
            if failure.kind != "not_found":  # else it ended by itself meanwhile
                raise

    async def _prune(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """What is older than the age; deleted only with --yes."""
        oldest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(
            minutes=self._request.older_than_min
        )
        mine = [
            info
            for info in await list_managed(client)
            if owner_of(info.labels, self._user) == YOURS
        ]
        old = [info for info in mine if is_before(info.created_at, oldest)]
        if not self._request.json:
            for info in old:
                print_listing(listing_line(info, self._user))
        if not self._request.yes:
            self._status.say(
                f"{len(old)} would be deleted; add --yes to do it" if old else "none is that old"
            )
            return old, 0, {"deleted": False}
        for info in old:
            await self._delete_if_there(client, info)
        self._status.say(f"deleted {len(old)}")
        return old, 0, {"deleted": True}

    async def _owned(self, client: Client, target: str) -> Sandbox:
        """A sandbox that this skill made for this user; raises Failure for anybody else's."""
        sandbox = await client.get(target)
        info = sandbox.info
        require_yours(info.id, info.name, info.labels, user=self._user, local=self._request.local)
        return sandbox

    async def _extend(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """Longer, never shorter: `delete` and `stop` say what they do."""
        request, sandbox = self._request, await self._owned(client, self._request.targets[0])
        if not is_longer(request.ttl_min, sandbox.info.expires_at):
            end = sandbox.info.expires_at or "no end"
            raise UsageFailure(
                f"{strip_controls(sandbox.info.name)} lives until {end} already",
                fix="a larger --ttl, or sandboxes.py delete",
            )
        await sandbox.set_ttl(request.ttl_min)
        if request.auto_stop_min is not None:
            await sandbox.set_auto_stop(request.auto_stop_min)
        idle = sandbox.info.auto_stop_min
        idles = f", stopped after {idle} idle minutes" if idle else ", not stopped when idle"
        self._status.say(
            f"{sandbox.info.name} ({sandbox.info.id}): until {sandbox.info.expires_at}{idles}"
        )
        return [sandbox.info], 0, {"auto_stop_min": idle}

    async def _shell(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        sandbox = await self._owned(client, self._request.targets[0])
        code = await run_shell(sandbox, local=self._request.local)
        self._status.say(f"the shell ended with exit code {code}; the sandbox is as it was")
        return [sandbox.info], code, {"exit_code": code}

    def _made(self, client: Client) -> MadeVerbs:
        return MadeVerbs(client, self._settings, self._status)

    async def _snapshot(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        sandbox = await self._owned(client, self._request.targets[0])
        made = await self._made(client).make_snapshot(sandbox, self._request.name)
        local = ["--local"] * self._request.local
        use = skill_env.command("run_in_sandbox.py", *local, "--snapshot", made.name)
        self._status.say(f"made snapshot {made.name} ({made.id}); to use it: {use} --command CMD")
        return [sandbox.info], 0, {"snapshot": asdict(made)}

    async def _snapshots(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        return await self._show_made(client, "snapshots")

    async def _volumes(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        return await self._show_made(client, "volumes")

    async def _show_made(
        self, client: Client, kind: Kind
    ) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """What these scripts made, after the deletions that were asked for."""
        verbs = self._made(client)
        for name in self._request.delete:
            await verbs.delete_made(kind, name)
        found = await verbs.list_made(kind)
        if not self._request.json:
            for one in found:
                print_listing(f"{one.id}\t{one.name}\t{one.state}")
            if not found and not self._request.delete:
                self._status.say("none")
        return [], 0, {kind: [asdict(one) for one in found]}

    async def _adopt(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        if self._request.volume:
            await self._made(client).adopt_volume(self._request.targets[0])
            return [], 0, {}
        sandbox = await client.get(self._request.targets[0])
        before = owner_of(sandbox.info.labels, self._user)
        if before != YOURS:
            await sandbox.add_labels(self._user.labels)
        if owner_of(sandbox.info.labels, self._user) != YOURS:
            raise Failure(
                "server_error",
                "the server accepted the labels, but the sandbox does not carry them",
            )
        self._status.say(f"{sandbox.info.name} ({sandbox.info.id}) was {before}; it is yours")
        return [sandbox.info], 0, {}

    async def _publish(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        sandbox = await self._owned(client, self._request.targets[0])
        public = not self._request.off
        await sandbox.set_public(public)
        if sandbox.info.public != public:
            raise Failure("server_error", "the server accepted the change, but did not make it")
        link = (
            await sandbox.preview_url(self._request.port) if public and self._request.port else None
        )
        reach = (
            "everybody can open every port, without a token"
            if public
            else "links need a token again"
        )
        self._status.tell(f"{sandbox.info.name} ({sandbox.info.id}): {reach}")
        if link and not self._request.json:
            print_listing(link)
        return [sandbox.info], 0, {"public": public, "url": link}

    async def _fetch_held(self) -> dict[str, Any]:
        """On this machine only: no server is asked."""
        request = self._request
        return await fetch_in_worker(
            request.run_id, request.pairs, force=request.force, folder=Path.cwd()
        )

    async def _fetch_from_sandbox(
        self, client: Client
    ) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        sandbox = await self._owned(client, self._request.run_id)
        answer = await fetch_from_sandbox(
            sandbox, self._request.pairs, self._user, self._status, force=self._request.force
        )
        if not self._request.json:
            self._show_fetched(answer)
        return [sandbox.info], 0, answer

    def _show_fetched(self, answer: dict[str, Any]) -> int:
        if self._request.json:
            shown = {"engine": None, "sandboxes": [], **answer, "error": None}
            write_quietly(sys.stdout, json.dumps(shown) + "\n")
            return 0
        for found in (*answer["held"], *answer["files"]):
            print_listing(f"{found['path']}\t{found['bytes']} bytes")
        for path in answer["left"]:
            self._status.tell(f"not brought: {path} is a link out of the folder")
        if answer["of_git"]:
            self._status.tell(
                f"not brought: {quote_path(answer['of_git'][0])} and"
                f" {len(answer['of_git']) - 1} more: git would obey a repository that lies there;"
                " name its folder if you want it"
            )
        if answer["held"]:
            pair = f"{answer['held'][0]['path']}:HERE"
            command = skill_env.command("sandboxes.py", "fetch", self._request.run_id, pair)
            self._status.say(f"to bring one: {command}")
        return 0


async def list_managed(client: Client, *, everything: bool = False) -> list[SandboxInfo]:
    """What carries the skill's label, by the server's own filter and by ours: newest last.

    With `everything` the account's others too, to look at only.
    """
    wanted = {} if everything else {MANAGED_BY: MANAGER}
    found = [info async for info in client.list(wanted)]
    return sorted(
        (info for info in found if everything or info.labels.get(MANAGED_BY) == MANAGER),
        key=lambda info: info.created_at or "",
    )


async def running_programs(sandbox: Sandbox, user: User) -> list[str]:
    """Sessions of these scripts whose program has not ended; of nobody else's sandbox."""
    if sandbox.info.state != STARTED or owner_of(sandbox.info.labels, user) != YOURS:
        return []
    with contextlib.suppress(Failure):
        commands = await sandbox.commands()
        return sorted(
            {one.session for one in commands if one.exit_code is None and is_ours(one.session)}
        )
    return []


async def programs_of_all(
    client: Client, found: Sequence[SandboxInfo], user: User
) -> dict[str, list[str]]:
    """What runs in each of this user's started sandboxes; nothing where there are many."""
    mine = [
        info for info in found if info.state == STARTED and owner_of(info.labels, user) == YOURS
    ]
    if len(mine) > MOST_LOOKED_INTO:
        return {}

    async def look(info: SandboxInfo) -> tuple[str, list[str]]:
        with contextlib.suppress(Failure):
            return info.id, await running_programs(await client.get(info.id), user)
        return info.id, []

    return dict(await asyncio.gather(*map(look, mine)))


async def wait_until_ended(sandbox: Sandbox, program: SessionCommand) -> int:
    while True:
        code = await sandbox.exit_code(program.session, program.id)
        if code is not None:
            return code
        await asyncio.sleep(POLL_S)


def is_before(created_at: str | None, moment: datetime.datetime) -> bool:
    """False for a time that cannot be read: what is not known to be old stays."""
    try:
        created = datetime.datetime.fromisoformat((created_at or "").replace("Z", "+00:00"))
    except ValueError:
        return False
    return (created if created.tzinfo else created.replace(tzinfo=datetime.timezone.utc)) < moment


def sandbox_as_json(info: SandboxInfo, user: User) -> dict[str, Any]:
    names = ("id", "name", "state", "created_at", "expires_at", "auto_stop_min", "labels")
    return {
        **{name: getattr(info, name) for name in names},
        "run_id": info.labels.get(RUN_ID),
        "whose": owner_of(info.labels, user),
        "size": {"cpu": info.cpu, "memory": info.memory, "disk": info.disk},
    }


def listing_line(info: SandboxInfo, user: User) -> str:
    size = f"{info.cpu} vCPU, {info.memory} GiB, {info.disk} GiB disk"
    idle = f"idle {info.auto_stop_min} min" if info.auto_stop_min else "no auto-stop"
    return "\t".join(
        (
            info.id,
            info.name,
            info.state,
            owner_of(info.labels, user),
            f"created {info.created_at}",
            f"until {info.expires_at or 'no ttl'}",
            idle,
            size if info.cpu else "",
        )
    )


def aligned(lines: Sequence[str]) -> list[str]:
    """Columns of one width each, for a terminal."""
    rows = [[one_line(part) for part in line.split("\t")] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def print_listing(line: str) -> None:
    """A line of the listing; what is in it comes from a server, so it is one clean line."""
    write_quietly(
        sys.stdout,
        "\t".join(one_line(part) for part in line.split("\t")[:MOST_PARTS])[:LONGEST_LINE] + "\n",
    )
