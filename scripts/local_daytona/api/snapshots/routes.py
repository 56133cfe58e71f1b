"""HTTP of snapshots (PROTOCOL.md, "Snapshots")."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...errors import ApiError
from ...http_json import Fields, answer
from ..builds.logs import BuildLogs
from ..builds.service import Builds, Plan, plan_of
from ..sandboxes.register import Register
from ..sandboxes.service import Sandboxes
from ..sandboxes.storage import Storage
from .service import Snapshot, Snapshots, requested_size, snapshot_json

PAGE_SIZE, LARGEST_PAGE = 100, 200
SORT_KEYS: dict[str, Callable[[Snapshot], Any]] = {
    "name": lambda snapshot: snapshot.name,
    "state": lambda snapshot: snapshot.state,
    "createdAt": lambda snapshot: snapshot.created_at,
    "lastUsedAt": lambda snapshot: snapshot.last_used_at or 0.0,
}


class SnapshotRoutes:
    """Handlers over Snapshots, Builds and their logs."""

    def __init__(
        self,
        snapshots: Snapshots,
        register: Register,
        sandboxes: Sandboxes,
        storage: Storage,
        builds: Builds,
        logs: BuildLogs,
    ) -> None:
        self._snapshots = snapshots
        self._register = register
        self._sandboxes = sandboxes
        self._storage = storage
        self._builds = builds
        self._logs = logs

    def routes(self) -> list[web.RouteDef]:
        sandbox, one = "/api/sandbox/{id}", "/api/snapshots/{id}"
        return [
            web.get("/api/snapshots", self.list),
            web.post("/api/snapshots", self.create),
            web.get(one, self.get),
            web.delete(one, self.delete),
            web.post(one + "/activate", self.activate),
            web.post(one + "/deactivate", self.deactivate),
            web.post(sandbox + "/snapshot", self.save_sandbox),
        ]

    async def list(self, request: web.Request) -> web.Response:
        query = Fields.of_query(request)
        page = query.integer("page", 1, least=1)
        limit = query.integer("limit", PAGE_SIZE, least=1, most=LARGEST_PAGE)
        found = ordered([one for one in self._snapshots if matches(one, query)], query)
        items = [snapshot_json(snapshot) for snapshot in found[(page - 1) * limit : page * limit]]
        total, pages = len(found), -(-len(found) // limit)
        return answer({"items": items, "total": total, "page": page, "totalPages": pages})

    async def get(self, request: web.Request) -> web.Response:
        return answer(snapshot_json(self._find(request)))

    async def create(self, request: web.Request) -> web.Response:
        """Answers at once, in `pending`; the build goes on."""
        fields = await Fields.of_body(request)
        plan = self._plan(fields)
        refuse_other_classes(fields)
        size = requested_size(fields, plan.base.resources)
        snapshot = Snapshot(
            str(uuid.uuid4()),
            fields.text("name"),
            size.cpu,
            size.memory,
            size.disk,
            state="pending",
            image_name=fields.text("imageName", "") or None,
            dockerfile=plan.dockerfile if fields.has("buildInfo") else None,
            entrypoint=fields.list_of_texts("entrypoint") or None,
        )
        self._snapshots.add(snapshot)
        shown = snapshot_json(snapshot)
        self._builds.snapshot(snapshot, plan)
        return answer(shown)

    def _plan(self, fields: Fields) -> Plan:
        plan, image = plan_of(fields, self._snapshots), fields.text("imageName", "")
        if (plan is None) == (not image):
            raise ApiError(400, "Either imageName or buildInfo must be given, and not both")
        return plan or Plan(f"FROM {image}\n", self._snapshots.base(image), [])

    async def delete(self, request: web.Request) -> web.Response:
        """A build of it ends; sandboxes that started from it have their own files."""
        snapshot = self._find(request)
        self._snapshots.check_removable(snapshot)
        await self._builds.end(snapshot.id)
        self._snapshots.remove(snapshot)
        self._logs.forget(snapshot.id)
        self._storage.empty_trash()
        return answer({**snapshot_json(snapshot), "state": "removing"})

    async def activate(self, request: web.Request) -> web.Response:
        snapshot = self._find(request)
        if snapshot.state != "inactive":
            message = f"Snapshot {snapshot.name} cannot be activated - it is {snapshot.state}"
            raise ApiError(400, message)
        self._snapshots.change(snapshot, state="active")
        return answer(snapshot_json(snapshot))

    async def deactivate(self, request: web.Request) -> web.Response:
        snapshot = self._find(request)
        self._snapshots.check_removable(snapshot)
        if snapshot.state != "active":
            message = f"Snapshot {snapshot.name} cannot be deactivated - it is {snapshot.state}"
            raise ApiError(400, message)
        self._snapshots.change(snapshot, state="inactive")
        return web.Response(status=204)

    async def save_sandbox(self, request: web.Request) -> web.Response:
        """Answers when the copy is whole, so that a failure is told.

        Meanwhile the sandbox is `snapshotting`.
        """
        fields = await Fields.of_body(request)
        if fields.boolean("includeMemory"):
            raise ApiError(400, "Container Sandboxes do not support memory snapshots")
        managed = self._register.find(request.match_info["id"])
        record = managed.record
        snapshot = Snapshot(
            str(uuid.uuid4()),
            fields.text("name"),
            record.cpu,
            record.memory,
            record.disk,
            state="snapshotting",
            env=dict(record.image_env),
            work_dir=record.work_dir,
            entrypoint=record.entrypoint,
            source_sandbox_id=record.id,
        )
        self._snapshots.add(snapshot)
        try:
            await self._sandboxes.save_as(managed, snapshot)
            self._snapshots.change(snapshot, state="active")
        except BaseException:
            self._snapshots.remove(snapshot)
            self._storage.empty_trash()
            raise
        return answer(self._register.as_json(record))

    def _find(self, request: web.Request) -> Snapshot:
        return self._snapshots.find(request.match_info["id"])


def refuse_other_classes(fields: Fields) -> None:
    """Raises the 501 for what is no container of this machine."""
    if fields.any("gpu") or fields.any("gpuType"):
        raise ApiError(501, "local Daytona has no GPU; use the cloud", code="NOT_IMPLEMENTED")
    if fields.text("sandboxClass", "container") != "container":
        message = "local Daytona has containers only; use the cloud"
        raise ApiError(501, message, code="NOT_IMPLEMENTED")


def matches(snapshot: Snapshot, query: Fields) -> bool:
    source = query.text("sourceSandboxId", "")
    if source and snapshot.source_sandbox_id != source:
        return False
    return query.text("name", "").lower() in snapshot.name.lower()


def ordered(found: list[Snapshot], query: Fields) -> list[Snapshot]:
    """By the query's sort and order; otherwise as they were made, Daytona's own first."""
    if not query.has("sort"):
        return found
    key = SORT_KEYS.get(query.text("sort"))
    if key is None:
        raise ApiError(400, f"sort must be one of {', '.join(SORT_KEYS)}")
    return sorted(found, key=key, reverse=query.text("order", "asc").lower() == "desc")
