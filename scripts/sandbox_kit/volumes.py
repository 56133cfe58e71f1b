"""--volume: storage that outlives sandboxes; made where it is missing, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import skill_env

from .errors import Failure
from .made_record import MadeRecord
from .request import VolumeMount
from .sdk import Client, VolumeInfo
from .status_log import StatusLog

READY_TIMEOUT_S, PAUSE_S = 60.0, 0.5
READY = "ready"
LOST = ("error", "deleting", "deleted", "pending_delete")


async def prepare_volumes(
    client: Client,
    mounts: Sequence[VolumeMount],
    record: MadeRecord,
    status: StatusLog,
    *,
    local: bool,
) -> dict[str, str]:
    """Mount path -> the id of its volume, which is ready; raises Failure."""
    found: dict[str, str] = {}
    for mount in mounts:
        volume = await find_or_make(client, mount.name, record, status, local=local)
        found[mount.path] = (await until_ready(client, volume)).id
    return found


async def find_or_make(
    client: Client, name: str, record: MadeRecord, status: StatusLog, *, local: bool
) -> VolumeInfo:
    """Raises Failure conflict for one that these scripts did not make: it may be a colleague's."""
    volume = await client.volume(name)
    if volume is None:
        volume = await client.create_volume(name)
        end = f"it stays until you delete it with: {verb('volumes', '--delete', name, local=local)}"
        status.tell(f"made volume {name} ({volume.id}); {end}")
        try:
            record.add(volume.id, name)
        except OSError as error:
            status.tell(f"no record of that: {error.strerror}; a later run will not use it unasked")
    elif volume.id not in record.names():
        command = verb("adopt", name, "--volume", local=local)
        raise Failure(
            "conflict",
            f"volume {name} is there already, and these scripts did not make it",
            fix=f"use another name, or, if it is yours: {command}",
        )
    return volume


async def until_ready(client: Client, volume: VolumeInfo) -> VolumeInfo:
    """Raises Failure when it does not become so."""
    for _ in range(int(READY_TIMEOUT_S / PAUSE_S)):
        if volume.state == READY:
            return volume
        if volume.state in LOST:
            break
        await asyncio.sleep(PAUSE_S)
        found = await client.volume(volume.name)
        if found is None or found.id != volume.id:
            break
        volume = found
    raise Failure(
        "create_failed",
        f"volume {volume.name} is not ready: {volume.state}",
        fix="repeat it in a minute, or use another name",
    )


def verb(*words: str, local: bool) -> str:
    return skill_env.command("sandboxes.py", *words, *["--local"] * local)
