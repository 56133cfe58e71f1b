"""sandboxes.py: find, watch and delete what this skill made, by its label; nobody else's sandbox is ever touched."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from .console import write_quietly
from .execution import keep_awake
from .failures import TIMED_OUT, Failure
from .lease import DELETE_PAUSES_S, MANAGED_BY, MANAGER, RUN_ID, WORTH_REPEATING
from .options import SandboxesOptions
from .output import HeadAndTail, Narrator, plain
from .sdk import Client, Handle, SandboxInfo
from .settings import for_local, from_environment

POLL_S = 1.0


def main(options: SandboxesOptions) -> int:
    """Do it and show it; the exit code. Raises Failure."""
    narrator = Narrator()
    try:
        return asyncio.run(Inventory(options, narrator).act())
    except Failure as failure:
        if options.debug:
            narrator.tell("".join(traceback.format_exception(failure)))
        raise


class Inventory:
    """One call of sandboxes.py."""

    def __init__(self, options: SandboxesOptions, narrator: Narrator) -> None:
        self._options = options
        self._narrator = narrator

    async def act(self) -> int:
        """The exit code; raises Failure."""
        settings = await asyncio.to_thread(for_local) if self._options.local else from_environment()
        self._narrator.hide(settings.secrets)
        self._narrator.tell(f"engine: {settings.describe()}")
        actions: dict[str, Callable[[Client], Awaitable[tuple[list[SandboxInfo], int, dict[str, Any]]]]] = {
            "list": self._list, "info": self._info, "logs": self._logs, "wait": self._wait, "stop": self._stop, "delete": self._delete,
            "prune": self._prune,
        }  # fmt: skip
        async with Client.open(settings) as client:
            found, code, more = await actions[self._options.action](client)
        answer = {"engine": settings.engine, "sandboxes": [as_json(info) for info in found], "error": None, **more}
        if self._options.json:
            write_quietly(sys.stdout, json.dumps(answer) + "\n")
        return code

    async def _list(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        found = await ours(client)
        if not self._options.json:
            for info in found:
                show(line_of(info))
            if not found:
                self._narrator.say("none")
        return found, 0, {}

    async def _info(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        info = (await client.get(self._options.targets[0])).info
        if not self._options.json:
            for name, value in asdict(info).items():
                text = ", ".join(f"{key}={found}" for key, found in value.items()) if isinstance(value, dict) else value
                show(f"{name}: {text}")
        return [info], 0, {"size": {"cpu": info.cpu, "memory": info.memory, "disk": info.disk}}

    async def _logs(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """Both streams of the latest program that this skill started there."""
        handle, session, command, code = await self._latest(client)
        out, err = await handle.logs(session, command)
        texts = [bounded(text, self._options.max_output) for text in (out, err)]
        if self._options.json:
            return [handle.info], 0, {"stdout": texts[0], "stderr": texts[1], "exit_code": code}
        write_quietly(sys.stdout, texts[0])
        write_quietly(sys.stderr, texts[1])
        self._narrator.say("the program is still running" if code is None else f"the program ended with exit code {code}")
        return [handle.info], 0, {}

    async def _wait(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """Until it ends; 124 when that takes too long, and it runs on."""
        handle, session, command, code = await self._latest(client)
        awake = asyncio.create_task(keep_awake(handle, self._narrator))
        try:
            with self._narrator.waiting("waiting"), contextlib.suppress(asyncio.TimeoutError):
                code = await asyncio.wait_for(until_it_ends(handle, session, command), self._options.timeout_s)
        finally:
            awake.cancel()
        if code is None:
            raise Failure(
                "timeout", f"the program still runs after --timeout {self._options.timeout_s} s, and goes on", exit_code=TIMED_OUT,
                fix="wait again, or look at sandboxes.py logs",
            )  # fmt: skip
        self._narrator.say(f"the program ended with exit code {code}")
        return [handle.info], code, {"exit_code": code}

    async def _latest(self, client: Client) -> tuple[Handle, str, str, int | None]:
        handle = await client.get(self._options.targets[0])
        if handle.info.state != "started":
            raise Failure("conflict", f"{plain(handle.info.name)} is {handle.info.state}: its programs and their output are gone",
                          fix="files are kept: run_in_sandbox.py --sandbox ID --command 'ls -la' looks at them")  # fmt: skip
        commands = [found for found in await handle.commands() if found[0].startswith("run-")]
        if not commands:
            raise Failure(
                "not_found",
                f"{plain(handle.info.name)} has no program that this skill started",
                fix="run_in_sandbox.py --detach starts one",
            )
        session, command, code = commands[-1]
        return handle, session, command, code

    async def _stop(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        async def stop(handle: Handle) -> None:
            if handle.info.state == "started":
                await handle.stop()

        return await self._each(client, stop, "stopped"), 0, {}

    async def _delete(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        return await self._each(client, delete, "deleted"), 0, {}

    async def _each(self, client: Client, act: Callable[[Handle], Awaitable[None]], done: str) -> list[SandboxInfo]:
        """Act on every target; the first failure is raised after the others were tried."""
        finished, failures = [], []
        for target in self._options.targets:
            try:
                handle = await owned(client, target, local=self._options.local)
                await act(handle)
            except Failure as failure:
                failures.append(failure)
            else:
                finished.append(handle.info)
                self._narrator.say(f"{done} {plain(target)}")
        for another in failures[1:]:
            self._narrator.tell(another.message)
        if failures:
            raise failures[0]
        return finished

    async def _delete_if_there(self, client: Client, info: SandboxInfo) -> None:
        try:
            await delete(await owned(client, info.id, local=self._options.local))
        except Failure as failure:
            if failure.kind != "not_found":  # else it ended by itself meanwhile
                raise

    async def _prune(self, client: Client) -> tuple[list[SandboxInfo], int, dict[str, Any]]:
        """What is older than the age; deleted only with --yes."""
        oldest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=self._options.older_than_min)
        old = [info for info in await ours(client) if is_before(info.created_at, oldest)]
        if not self._options.json:
            for info in old:
                show(line_of(info))
        if not self._options.yes:
            self._narrator.say(f"{len(old)} would be deleted; add --yes to do it" if old else "none is that old")
            return old, 0, {"deleted": False}
        for info in old:
            await self._delete_if_there(client, info)
        self._narrator.say(f"deleted {len(old)}")
        return old, 0, {"deleted": True}


async def ours(client: Client) -> list[SandboxInfo]:
    """By the server's own label filter, and by ours: newest last."""
    found = [info async for info in client.list({MANAGED_BY: MANAGER})]
    return sorted((info for info in found if info.labels.get(MANAGED_BY) == MANAGER), key=lambda info: info.created_at or "")


async def owned(client: Client, target: str, *, local: bool) -> Handle:
    """A sandbox that this skill made; raises Failure for anybody else's."""
    handle = await client.get(target)
    if handle.info.labels.get(MANAGED_BY) != MANAGER:
        raise Failure(
            "forbidden", f"{target} was not made by this skill (no label {MANAGED_BY}={MANAGER}), so it is left alone",
            fix="delete it with the SDK that made it" if local else f"delete it where it was made, or: daytona delete {target}",
        )  # fmt: skip
    return handle


async def delete(handle: Handle) -> None:
    """Until the server accepts it, or says that it is gone."""
    for pause in DELETE_PAUSES_S:
        await asyncio.sleep(pause)
        try:
            await handle.delete()
        except Failure as failure:
            if failure.kind == "not_found":
                return
            if failure.kind not in WORTH_REPEATING or pause == DELETE_PAUSES_S[-1]:
                raise
        else:
            return


async def until_it_ends(handle: Handle, session: str, command: str) -> int:
    while True:
        code = await handle.exit_code(session, command)
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


def bounded(text: str, limit: int) -> str:
    """As a run shows it: without escapes, head and tail; all and raw with 0."""
    if not limit:
        return text
    parts: list[str] = []
    out = HeadAndTail(
        limit, parts.append, notice=lambda left_out: f"\n[sandbox] {left_out} characters left out; --max-output 0 shows all\n"
    )
    out.feed(plain(text))
    out.finish()
    return "".join(parts)


def as_json(info: SandboxInfo) -> dict[str, Any]:
    found = asdict(info)
    for size in ("cpu", "memory", "disk"):
        del found[size]
    return {**found, "run_id": info.labels.get(RUN_ID)}


def line_of(info: SandboxInfo) -> str:
    return "\t".join((info.id, info.name, info.state, f"created {info.created_at}", f"until {info.expires_at or 'no ttl'}"))


def show(line: str) -> None:
    """A line of the listing; names come from a server, so they are printed as plain text."""
    write_quietly(sys.stdout, plain(line).replace("\n", " ") + "\n")
