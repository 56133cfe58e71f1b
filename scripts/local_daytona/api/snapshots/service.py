"""The snapshots of this server: Daytona's own three sizes, and those that users made."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...engine import Engine
from ...errors import ApiError, iso, now
from ...http_json import Fields
from ...isolation.limits import Resources
from ...store import Store

EVERY_IMAGE = "*"  # an operator's word for every name of an image that is no snapshot
DEFAULT = "daytona-small"
SEEDED = {
    DEFAULT: Resources(cpu=1, memory=1, disk=3),
    "daytona-medium": Resources(cpu=2, memory=4, disk=8),
    "daytona-large": Resources(cpu=4, memory=8, disk=10),
}
LARGEST = SEEDED["daytona-large"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
UNFINISHED = ("pending", "building", "snapshotting")
SEEDED_AT = 1767225600.0  # 2026-01-01


@dataclass
class Snapshot:
    """One snapshot. Times are seconds since the epoch.

    `env` and `work_dir` are what its build left for those that start from it.
    """

    id: str
    name: str
    cpu: int
    memory: int
    disk: int
    state: str = "active"
    general: bool = False  # made by Daytona: over the template, without storage of its own
    image_name: str | None = None
    dockerfile: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    work_dir: str | None = None
    entrypoint: list[str] | None = None
    size: float | None = None
    error_reason: str | None = None
    source_sandbox_id: str | None = None
    created_at: float = field(default_factory=now)
    updated_at: float = field(default_factory=now)
    last_used_at: float | None = None

    @property
    def resources(self) -> Resources:
        return Resources(cpu=self.cpu, memory=self.memory, disk=self.disk)

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> Snapshot:
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def seeded(name: str) -> Snapshot:
    size = SEEDED[name]
    snapshot = Snapshot(name, name, size.cpu, size.memory, size.disk, general=True, image_name=name)
    return dataclasses.replace(snapshot, created_at=SEEDED_AT, updated_at=SEEDED_AT)


class Snapshots:
    """Find, keep and delete. `images` are names that the operator maps to the host's template."""

    def __init__(self, engine: Engine, store: Store, *, images: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._table = store.snapshots
        self._kept: dict[str, Snapshot] = {}
        self._in_use: Counter[str] = Counter()
        self.images = images

    def __iter__(self) -> Iterator[Snapshot]:
        return iter([*map(seeded, SEEDED), *self._kept.values()])

    def recover(self) -> None:
        """After a start: a cut off copy is gone, a cut off build has failed.

        Storage without a record is freed.
        """
        for values in self._table:
            snapshot = Snapshot.from_stored(values)
            self._kept[snapshot.id] = snapshot
        for snapshot in list(self._kept.values()):
            if snapshot.state == "snapshotting":  # its request was never answered
                self.remove(snapshot)
            elif snapshot.state in UNFINISHED:
                reason = "local Daytona ended while it was built"
                self.change(snapshot, state="build_failed", error_reason=reason)
        whole = [one for one in self._kept.values() if one.state in ("active", "inactive")]
        for orphan in self._engine.stored_snapshots() - {one.id for one in whole}:
            self._engine.discard_snapshot(orphan)

    def find(self, id_or_name: str) -> Snapshot:
        """Raises the 404 that names those there are."""
        named = (one for one in self if one.name == id_or_name)
        snapshot = self._kept.get(id_or_name) or next(named, None)
        if snapshot is None:
            message = f"Snapshot {id_or_name} not found: local Daytona has {self._names()}"
            raise ApiError(404, message)
        return snapshot

    def usable(self, id_or_name: str) -> Snapshot:
        """One that a sandbox can start from; raises the 400."""
        try:
            snapshot = self.find(id_or_name)
        except ApiError as error:
            raise ApiError(400, error.message) from None
        if snapshot.state != "active":
            raise ApiError(400, f"Snapshot {snapshot.name} is {snapshot.state}")
        if not snapshot.general and not self._engine.can_start_from(snapshot.id):
            reason = "was made with another kind of storage; make it again"
            raise ApiError(400, f"Snapshot {snapshot.name} {reason}")
        return snapshot

    def base(self, name: str) -> Snapshot:
        """What a FROM names: a snapshot, or an image that the operator maps to the template.

        Raises the 400.
        """
        unknown = all(name not in (one.name, one.id) for one in self)
        named = plain_image(name) in map(plain_image, self.images)
        if named or (unknown and EVERY_IMAGE in self.images):
            return seeded(DEFAULT)
        if unknown:
            raise ApiError(
                400,
                f"local Daytona cannot pull the image {name}: it builds on the snapshots it has"
                f" ({self._names()}); an operator may serve it as this machine's own system:"
                f" start --image {shlex.quote(name)}",
            )
        return self.usable(name)

    def _names(self) -> str:
        names = [snapshot.name for snapshot in self]
        return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

    def add(self, snapshot: Snapshot) -> None:
        """Keep a new one; raises the 400 or 409 for its name."""
        if not NAME.fullmatch(snapshot.name):
            raise ApiError(400, f"name must match {NAME.pattern}")
        if any(snapshot.name in (one.name, one.id) for one in self):
            message = f'Snapshot with name "{snapshot.name}" already exists for this organization'
            raise ApiError(409, message)
        self._table.save(snapshot.id, snapshot.name, dataclasses.asdict(snapshot))
        self._kept[snapshot.id] = snapshot

    def change(self, snapshot: Snapshot, **values: Any) -> None:
        """Set fields, on disk before it returns."""
        for name, value in values.items():
            setattr(snapshot, name, value)
        snapshot.updated_at = now()
        self._table.save(snapshot.id, snapshot.name, dataclasses.asdict(snapshot))

    @contextlib.contextmanager
    def held(self, snapshot: Snapshot) -> Iterator[None]:
        """While its storage is copied it is not deleted."""
        self._in_use[snapshot.id] += 1
        try:
            yield
        finally:
            self._in_use[snapshot.id] -= 1
            if snapshot.id in self._kept:
                self.change(snapshot, last_used_at=now())

    def check_removable(self, snapshot: Snapshot) -> None:
        """Raises the 403 for Daytona's own, the 409 for one that is being written or copied."""
        if snapshot.general:
            raise ApiError(403, f"Snapshot {snapshot.name} is Daytona's own")
        if snapshot.state == "snapshotting" or self._in_use[snapshot.id] > 0:
            message = f"Snapshot {snapshot.name} is in use; try again when its sandbox has started"
            raise ApiError(409, message)

    def remove(self, snapshot: Snapshot) -> None:
        """Record first: storage without a record is freed at the next start."""
        self._table.forget(snapshot.id)
        self._kept.pop(snapshot.id, None)
        self._engine.discard_snapshot(snapshot.id)


def plain_image(name: str) -> str:
    """An image's name as people shorten it."""
    for prefix in ("docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def requested_size(fields: Fields, base: Resources) -> Resources:
    """cpu, memory and disk of a request, those of `base` where it says nothing.

    Raises the 400 beyond the largest.
    """
    return Resources(
        cpu=fields.integer("cpu", base.cpu, least=1, most=LARGEST.cpu),
        memory=fields.integer("memory", base.memory, least=1, most=LARGEST.memory),
        disk=fields.integer("disk", base.disk, least=1, most=LARGEST.disk),
    )


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """SnapshotDto (PROTOCOL.md, "Snapshots")."""
    values = {
        "id": snapshot.id,
        "organizationId": "local",
        "name": snapshot.name,
        "general": snapshot.general,
        "state": snapshot.state,
        "size": snapshot.size,
        "entrypoint": snapshot.entrypoint,
        "cpu": snapshot.cpu,
        "gpu": 0,
        "mem": snapshot.memory,
        "disk": snapshot.disk,
        "errorReason": snapshot.error_reason,
        "createdAt": iso(snapshot.created_at),
        "updatedAt": iso(snapshot.updated_at),
        "lastUsedAt": iso(snapshot.last_used_at) if snapshot.last_used_at else None,
        "sourceSandboxId": snapshot.source_sandbox_id,
    }
    if snapshot.image_name:
        values["imageName"] = snapshot.image_name
    if snapshot.dockerfile is not None:
        values["buildInfo"] = build_info(snapshot.dockerfile, snapshot.created_at, snapshot.id)
    return values


def build_info(dockerfile: str, created_at: float, reference: str) -> dict[str, Any]:
    """BuildInfo, as sandboxes and snapshots show it."""
    moment = iso(created_at)
    return {
        "dockerfileContent": dockerfile,
        "createdAt": moment,
        "updatedAt": moment,
        "snapshotRef": reference,
    }
