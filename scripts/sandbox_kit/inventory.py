"""sandboxes.py: find and delete what this skill made, by its label; nobody else's sandbox is ever touched."""

from __future__ import annotations

import asyncio
import json
import traceback
from dataclasses import asdict
from typing import Any

from .failures import Failure
from .lease import DELETE_PAUSES_S, MANAGED_BY, MANAGER, WORTH_REPEATING
from .options import ListOptions
from .output import Narrator, plain
from .sdk import Client, SandboxInfo
from .settings import for_local, from_environment


def main(options: ListOptions) -> int:
    """List or delete, and show it; raises Failure."""
    narrator = Narrator()
    try:
        show(asyncio.run(act(options, narrator)), options)
    except Failure as failure:
        if options.debug:
            narrator.tell("".join(traceback.format_exception(failure)))
        raise
    return 0


async def act(options: ListOptions, narrator: Narrator) -> dict[str, Any]:
    """List or delete; the JSON of design section 3. Raises Failure."""
    settings = await asyncio.to_thread(for_local) if options.local else from_environment()
    narrator.hide(settings.secrets)
    narrator.tell(f"engine: {settings.describe()}")
    async with Client.open(settings) as client:
        found = await ours(client) if options.action == "list" else await delete(client, options, narrator)
    return {"engine": settings.engine, "sandboxes": [as_json(info) for info in found], "error": None}


async def ours(client: Client) -> list[SandboxInfo]:
    """By the server's own label filter, newest last."""
    found = [info async for info in client.list({MANAGED_BY: MANAGER})]
    return sorted(found, key=lambda info: info.created_at or "")


async def delete(client: Client, options: ListOptions, narrator: Narrator) -> list[SandboxInfo]:
    """Delete every target; the first that cannot be deleted is raised after the others were tried."""
    deleted, failures = [], []
    for target in options.targets:
        try:
            deleted.append(await delete_one(client, target, local=options.local))
            narrator.say(f"deleted {plain(target)}")
        except Failure as failure:
            failures.append(failure)
    for another in failures[1:]:
        narrator.tell(another.message)
    if failures:
        raise failures[0]
    return deleted


async def delete_one(client: Client, target: str, *, local: bool) -> SandboxInfo:
    handle = await client.get(target)
    if handle.info.labels.get(MANAGED_BY) != MANAGER:
        raise Failure(
            "forbidden", f"{target} was not made by this skill (no label {MANAGED_BY}={MANAGER}), so it is left alone",
            fix="delete it with the SDK that made it" if local else f"delete it where it was made, or: daytona delete {target}",
        )  # fmt: skip
    for pause in DELETE_PAUSES_S:
        await asyncio.sleep(pause)
        try:
            await handle.delete()
            break
        except Failure as failure:
            if failure.kind == "not_found":
                break
            if failure.kind not in WORTH_REPEATING or pause == DELETE_PAUSES_S[-1]:
                raise
    return handle.info


def as_json(info: SandboxInfo) -> dict[str, Any]:
    return {**asdict(info), "run_id": info.labels.get("run-id")}


def show(answer: dict[str, Any], options: ListOptions) -> None:
    """One JSON object, or a line a sandbox; names come from a server, so they are printed as plain text."""
    if options.json:
        print(json.dumps(answer), flush=True)
        return
    for found in answer["sandboxes"]:
        if options.action == "list":
            ends = found["expires_at"] or "no ttl"
            print(
                plain("\t".join((found["id"], found["name"], found["state"], f"created {found['created_at']}", f"until {ends}"))),
                flush=True,
            )
    if options.action == "list" and not answer["sandboxes"]:
        Narrator().say("none")
