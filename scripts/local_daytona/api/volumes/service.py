"""Volumes: folders that sandboxes share and that outlive them, and those that a create asks for."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...engine import Engine
from ...errors import ApiError, iso, now
from ...http_json import Fields
from ...isolation.volume_mounts import checked_subpath, place_of
from ...store import Store
from ..name_rules import checked_name
from ..sandboxes.records import ORGANIZATION
from ..sandboxes.register import Register
from ..sandboxes.storage import Storage

MOST_MOUNTS = 16


@dataclass
class Volume:
    """Ready as soon as it exists. Times are seconds since the epoch."""

    id: str
    name: str
    created_at: float = field(default_factory=now)
    last_used_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """VolumeDto (PROTOCOL.md, "Volumes")."""
        moment = iso(self.created_at)
        return {
            "id": self.id,
            "name": self.name,
            "organizationId": ORGANIZATION,
            "state": "ready",
            "createdAt": moment,
            "updatedAt": moment,
            "lastUsedAt": iso(self.last_used_at) if self.last_used_at else None,
            "errorReason": None,
        }


class Volumes:
    """Create, find and delete; `register` knows which are mounted."""

    def __init__(self, engine: Engine, store: Store, register: Register, storage: Storage) -> None:
        self._engine = engine
        self._table = store.volumes
        self._register = register
        self._storage = storage
        self._kept: dict[str, Volume] = {}

    def __iter__(self) -> Iterator[Volume]:
        return iter(list(self._kept.values()))

    def recover(self) -> None:
        """After a start: storage without a record is freed, and the other way round made."""
        for values in self._table:
            volume = Volume(**values)
            self._kept[volume.id] = volume
            self._engine.make_volume(volume.id)
        for orphan in self._engine.stored_volumes() - set(self._kept):
            self._engine.discard_volume(orphan)

    def find(self, id_or_name: str) -> Volume:
        """Raises the 404."""
        volume = self._kept.get(id_or_name) or self.named(id_or_name)
        if volume is None:
            raise ApiError(404, f"Volume with ID or name {id_or_name} not found")
        return volume

    def named(self, name: str) -> Volume | None:
        return next((volume for volume in self if volume.name == name), None)

    def create(self, name: str) -> Volume:
        """Raises the 400 for the name, the 507 when the disk is full."""
        checked_name(name)
        if name in self._kept or self.named(name) is not None:
            raise ApiError(400, f"Volume with name {name} already exists")
        volume = Volume(str(uuid.uuid4()), name)
        try:
            self._engine.make_volume(volume.id)
        except OSError as error:
            message = f"local Daytona could not store the volume: {error.strerror or error}"
            raise ApiError(507, message) from None
        self._table.save(volume.id, volume.name, dataclasses.asdict(volume))
        self._kept[volume.id] = volume
        return volume

    def delete(self, volume: Volume) -> None:
        """Raises the 409 while a sandbox has it, in whatever state that is."""
        if self._register.mounting(volume.id):
            message = "Volume cannot be deleted because it is in use by one or more sandboxes"
            raise ApiError(409, f"{message}: {volume.name}")
        self._table.forget(volume.id)
        del self._kept[volume.id]
        self._engine.discard_volume(volume.id)
        self._storage.empty_trash()

    def requested(self, fields: Fields) -> list[dict[str, str]]:
        """The `volumes` of a create request, by volume id; raises the 400 or 404."""
        wanted = fields.any("volumes") or []
        is_list = isinstance(wanted, list) and all(isinstance(one, dict) for one in wanted)
        if not is_list or len(wanted) > MOST_MOUNTS:
            raise ApiError(400, f"volumes must be a list of at most {MOST_MOUNTS} objects")
        mounts = [self._mount(Fields(one)) for one in wanted]
        refuse_nested([mount["mountPath"] for mount in mounts])
        return mounts

    def _mount(self, wanted: Fields) -> dict[str, str]:
        volume = self.find(wanted.text("volumeId"))
        try:
            subpath = checked_subpath(wanted.text("subpath", ""))
            place_of(wanted.text("mountPath"), volume.id, subpath)
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        if subpath and not self._engine.can_mount_parts:
            message = "this machine's bubblewrap is too old for a volume's subpath"
            raise ApiError(501, f"{message}; leave it out, or install 0.10 or newer")
        volume.last_used_at = now()
        mount = {"volumeId": volume.id, "mountPath": wanted.text("mountPath").rstrip("/")}
        return {**mount, "subpath": subpath} if subpath else mount


def refuse_nested(paths: list[str]) -> None:
    """Raises the 400 for a mount point within another volume: sandboxes write there."""
    for place, path in enumerate(paths):
        for other in paths[:place] + paths[place + 1 :]:
            if f"{path}/".startswith(f"{other}/"):
                raise ApiError(400, f"mountPath {path} lies in another volume's")
