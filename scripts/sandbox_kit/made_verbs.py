"""Verbs about what an account keeps beside sandboxes: snapshots and volumes that were made here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import skill_env

from .errors import Failure
from .made_record import Kind, MadeRecord
from .sdk import Client, Sandbox, SnapshotInfo, VolumeInfo
from .settings import Settings
from .status_log import StatusLog

SNAPSHOT_TIMEOUT_S, PAUSE_S = 600.0, 1.0
ACTIVE, FAILED = "active", ("error", "build_failed", "removing")


@dataclass(frozen=True)
class MadeVerbs:
    """At one endpoint, by this user's own record."""

    client: Client
    settings: Settings
    status: StatusLog

    async def make_snapshot(self, sandbox: Sandbox, name: str) -> SnapshotInfo:
        """Of a sandbox, stopped first where the server wants that; raises Failure."""
        if await self.client.snapshot(name) is not None:
            raise Failure("conflict", f"snapshot {name} is there already", fix="use another name")
        may_stop = sandbox.info.state == "started" and not sandbox.info.ephemeral
        self.status.say(f"making snapshot {name} of {sandbox.info.name}")
        with self.status.waiting("making the snapshot"):
            try:
                await sandbox.save_as(name, timeout_s=SNAPSHOT_TIMEOUT_S)
            except Failure as failure:
                if failure.kind not in ("invalid_request", "conflict") or not may_stop:
                    raise
                self.status.tell(f"{failure.message}; trying it stopped, and so it stays")
                await sandbox.stop()
                await sandbox.save_as(name, timeout_s=SNAPSHOT_TIMEOUT_S)
            made = await self._until_active(name)
        self._note("snapshots", made.id, name)
        return made

    async def _until_active(self, name: str) -> SnapshotInfo:
        for _ in range(int(SNAPSHOT_TIMEOUT_S / PAUSE_S)):
            found = await self.client.snapshot(name)
            if found is not None and found.state == ACTIVE:
                return found
            if found is not None and found.state in FAILED:
                break
            await asyncio.sleep(PAUSE_S)
        reason = f": {found.error_reason}" if found and found.error_reason else ""
        raise Failure(
            "create_failed",
            f"snapshot {name} is {found.state if found else 'not there'}{reason}",
            fix="repeat it in a minute, or look at it in Daytona's dashboard",
        )

    async def list_made(self, kind: Kind) -> list[SnapshotInfo | VolumeInfo]:
        """What is on record and still there; what is gone is forgotten."""
        record, found = MadeRecord.of(kind, self.settings), list[SnapshotInfo | VolumeInfo]()
        for made_id, name in record.names().items():
            one = await self._find(kind, name)
            if one is None or one.id != made_id:
                record.forget(made_id)
            else:
                found.append(one)
        return found

    async def delete_made(self, kind: Kind, name: str) -> None:
        """Raises Failure for what these scripts did not make."""
        record, found = MadeRecord.of(kind, self.settings), await self._find(kind, name)
        if found is None:
            raise Failure("not_found", f"there is no {kind[:-1]} {name}")
        if found.id not in record.names():
            raise Failure(
                "conflict",
                f"{kind[:-1]} {name} was not made by these scripts, and is not deleted",
                fix="delete it in Daytona's dashboard, if it is yours",
            )
        if kind == "volumes":
            await self.client.delete_volume(found.id)
        else:
            await self.client.delete_snapshot(found.id)
        record.forget(found.id)
        self.status.say(f"deleted {kind[:-1]} {name}")

    async def adopt_volume(self, name: str) -> None:
        """From then on --volume uses it."""
        found = await self.client.volume(name)
        if found is None:
            raise Failure("not_found", f"there is no volume {name}", fix="--volume makes it")
        self._note("volumes", found.id, name)
        self.status.say(f"volume {name} ({found.id}) is yours to use")

    async def _find(self, kind: Kind, name: str) -> SnapshotInfo | VolumeInfo | None:
        return await (self.client.volume(name) if kind == "volumes" else self.client.snapshot(name))

    def _note(self, kind: Kind, made_id: str, name: str) -> None:
        try:
            MadeRecord.of(kind, self.settings).add(made_id, name)
        except OSError as error:
            raise Failure(
                "internal",
                f"no record could be kept of {kind[:-1]} {name} ({made_id}): {error.strerror}",
                fix=f"free some space; {skill_env.command('sandboxes.py', kind)} shows the others",
            ) from None
