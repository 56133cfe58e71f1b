"""HTTP of the control plane, prefix /api: requests in Daytona's words to calls on Sandboxes (wire-protocol, section 2)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..wire import ApiError, Fields, answer, integer, now
from . import snapshots
from .records import DEFAULT_AUTO_ARCHIVE_MIN, DEFAULT_AUTO_STOP_MIN, NO_AUTO_DELETE, TARGET, Record
from .sandboxes import Entry, Sandboxes, new_id

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LANGUAGES = ("python", "typescript", "javascript")
LANGUAGE_LABEL = "code-toolbox-language"
PAGE_SIZE, LARGEST_PAGE = 100, 200
LARGEST_ENV = 64 * 1024  # it travels with every exec in one message of 128 KiB
# What only the cloud can do, with the way out; refused at create rather than ignored.
CLOUD_ONLY = {
    "buildInfo": (400, "local Daytona has no images; use --snapshot daytona-small, daytona-medium or daytona-large, or the cloud"),
    "secrets": (501, "local Daytona has no secret vault; pass a throwaway value as env, or use the cloud"),
    "volumes": (501, "local Daytona has no volumes; upload files, or use the cloud"),
    "networkAllowList": (501, "local Daytona gives sandboxes no network; leave networkAllowList out, or use the cloud"),
    "domainAllowList": (501, "local Daytona gives sandboxes no network; leave domainAllowList out, or use the cloud"),
    "outboundProxyUrl": (501, "local Daytona gives sandboxes no network; leave outboundProxyUrl out, or use the cloud"),
    "linkedSandbox": (501, "local Daytona does not link sandboxes; use the cloud"),
    "gpu": (501, "local Daytona has no GPU; use the cloud"),
    "kvm": (501, "local Daytona has no virtual machines; use the cloud"),
    "spot": (501, "local Daytona has no spot machines; use the cloud"),
    "autoPauseInterval": (501, "local Daytona cannot pause; use autoStopInterval"),
}  # fmt: skip


class ControlRoutes:
    """Handlers over one Sandboxes."""

    def __init__(self, sandboxes: Sandboxes, *, status: Callable[[], dict[str, Any]]) -> None:
        self._sandboxes = sandboxes
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        one = "/api/sandbox/{id}"
        return [
            web.get("/local/status", self.status),
            web.post("/api/sandbox", self.create),
            web.get("/api/sandbox", self.list),
            web.get(one, self.get),
            web.delete(one, self.delete),
            web.post(one + "/start", self.start),
            web.post(one + "/stop", self.stop),
            web.put(one + "/labels", self.set_labels),
            web.post(one + "/autostop/{minutes}", self.set_interval("auto_stop_interval", least=0)),
            web.post(one + "/autoarchive/{minutes}", self.set_interval("auto_archive_interval", least=0)),
            web.post(one + "/autodelete/{minutes}", self.set_interval("auto_delete_interval", least=-1)),
            web.post(one + "/ttl/{minutes}", self.set_ttl),
            web.post(one + "/last-activity", self.refresh_activity),
            web.get(one + "/toolbox-proxy-url", self.toolbox_url),
            web.get("/api/snapshots", self.list_snapshots),
            web.get("/api/snapshots/{name}", self.get_snapshot),
        ]

    async def status(self, _request: web.Request) -> web.Response:
        return answer(self._status())

    async def create(self, request: web.Request) -> web.Response:
        record = new_record(await Fields.of_body(request))
        return answer(self._sandboxes.as_json(await self._sandboxes.create(record)))

    async def get(self, request: web.Request) -> web.Response:
        return answer(self._sandboxes.as_json(self._find(request).record))

    async def list(self, request: web.Request) -> web.Response:
        wanted = [entry.record for entry in self._sandboxes if matches(entry.record, request)]
        page, cursor = one_page(wanted, Fields.of_query(request))
        return answer({"items": [self._sandboxes.as_list_item(record) for record in page], "nextCursor": cursor})

    async def delete(self, request: web.Request) -> web.Response:
        return answer(self._sandboxes.as_json(await self._sandboxes.delete(self._find(request))))

    async def start(self, request: web.Request) -> web.Response:
        return answer(self._sandboxes.as_json(await self._sandboxes.start(self._find(request))))

    async def stop(self, request: web.Request) -> web.Response:
        return answer(self._sandboxes.as_json(await self._sandboxes.stop(self._find(request))))

    async def set_labels(self, request: web.Request) -> web.Response:
        entry = self._find(request)
        labels = checked_labels((await Fields.of_body(request)).texts("labels"))
        await self._sandboxes.change(entry, labels=labels)
        return answer({"labels": labels})

    def set_interval(self, field: str, *, least: int) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            minutes = path_minutes(request, least=least)
            return answer(self._sandboxes.as_json(await self._sandboxes.change(self._find(request), **{field: minutes})))

        return handler

    async def set_ttl(self, request: web.Request) -> web.Response:
        """Restarts the wall-clock life from now; 0 switches it off."""
        minutes = path_minutes(request, least=0)
        record = await self._sandboxes.change(self._find(request), ttl_minutes=minutes, ttl_from=now())
        return answer(self._sandboxes.as_json(record))

    async def refresh_activity(self, request: web.Request) -> web.Response:
        self._find(request).record.last_activity_at = now()
        return web.Response(status=201)

    async def toolbox_url(self, request: web.Request) -> web.Response:
        return answer({"url": self._sandboxes.as_json(self._find(request).record)["toolboxProxyUrl"]})

    async def list_snapshots(self, request: web.Request) -> web.Response:
        query = Fields.of_query(request)
        page, limit = query.integer("page", 1, least=1), query.integer("limit", PAGE_SIZE, least=1, most=LARGEST_PAGE)
        names = list(snapshots.SEEDED)
        shown = [snapshot_json(name) for name in names[(page - 1) * limit : page * limit]]
        return answer({"items": shown, "total": len(names), "page": page, "totalPages": -(-len(names) // limit)})

    async def get_snapshot(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in snapshots.SEEDED:
            raise ApiError(404, f"Snapshot {name} not found: local Daytona has {', '.join(snapshots.SEEDED)}")
        return answer(snapshot_json(name))

    def _find(self, request: web.Request) -> Entry:
        return self._sandboxes.find(request.match_info["id"])


def new_record(fields: Fields) -> Record:
    """A record from a create request; raises the 400, or the 501 for what only the cloud has."""
    refuse_cloud_only(fields)
    snapshot = fields.text("snapshot", snapshots.DEFAULT) or snapshots.DEFAULT
    size = snapshots.resources_of(snapshot)
    sandbox_id = new_id()
    name = fields.text("name", sandbox_id) or sandbox_id
    if not NAME.fullmatch(name):
        raise ApiError(400, f"name must match {NAME.pattern}")
    moment = now()
    return Record(
        id=sandbox_id,
        name=name,
        snapshot=snapshot,
        cpu=size.cpu,
        memory=size.memory,
        disk=size.disk,
        env=checked_env(fields.texts("env")),
        labels=checked_labels(fields.texts("labels")),
        public=fields.boolean("public"),
        auto_stop_interval=fields.integer("autoStopInterval", DEFAULT_AUTO_STOP_MIN),
        auto_archive_interval=fields.integer("autoArchiveInterval", DEFAULT_AUTO_ARCHIVE_MIN),
        auto_delete_interval=fields.integer("autoDeleteInterval", NO_AUTO_DELETE, least=-1),
        ttl_minutes=fields.integer("ttlMinutes", 0),
        ttl_from=moment,
        created_at=moment,
    )


def refuse_cloud_only(fields: Fields) -> None:
    for name, (status, sentence) in CLOUD_ONLY.items():
        if fields.any(name):
            raise ApiError(status, sentence)
    if any(fields.has(name) for name in ("cpu", "memory", "disk")):
        sizes = ", ".join(snapshots.SEEDED)
        raise ApiError(400, f"Cannot specify Sandbox resources when using a snapshot; the sizes are {sizes}")
    if fields.any("target") not in (None, "", TARGET):
        fields.text("target")  # a region of the cloud: the SDK sends it along from its configuration, it means nothing here


def checked_env(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name) or "\0" in value:
            raise ApiError(400, f"Invalid environment variable name or value: {name!r}")
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > LARGEST_ENV:
        raise ApiError(400, f"env is larger than {LARGEST_ENV} bytes; upload a file instead")
    return env


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    language = labels.get(LANGUAGE_LABEL, LANGUAGES[0])
    if language not in LANGUAGES:
        raise ApiError(400, f"{LANGUAGE_LABEL} must be one of {', '.join(LANGUAGES)}")
    return labels


def path_minutes(request: web.Request, *, least: int) -> int:
    minutes = integer(request.match_info["minutes"], "the interval")
    if not least <= minutes < 2**31:
        raise ApiError(400, f"the interval must be at least {least} minutes")
    return minutes


def matches(record: Record, request: web.Request) -> bool:
    """The list filters that the skill uses: id and name prefixes, all labels, any of the states or snapshots."""
    query = request.query
    states, names = query.getall("states", []), query.getall("snapshots", [])
    return (
        record.id.startswith(query.get("id", "").lower())
        and record.name.lower().startswith(query.get("name", "").lower())
        and wanted_labels(query.get("labels", "{}")).items() <= record.labels.items()
        and (not states or record.state in states)
        and (not names or record.snapshot in names)
    )


def wanted_labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ApiError(400, "labels must be a JSON object") from None
    return Fields({"labels": labels}).texts("labels")


SORT_KEYS: dict[str, Callable[[Record], Any]] = {
    "name": lambda record: record.name,
    "cpu": lambda record: record.cpu,
    "memoryGiB": lambda record: record.memory,
    "diskGiB": lambda record: record.disk,
    "lastActivityAt": lambda record: record.last_activity_at,
    "createdAt": lambda record: record.created_at,
}


def one_page(found: list[Record], query: Fields) -> tuple[list[Record], str | None]:
    """One page of `found` and the cursor of the next; the cursor names the last one shown, so deletions do not shift it."""
    key = SORT_KEYS.get(query.text("sort", "lastActivityAt"))
    if key is None:
        raise ApiError(400, f"sort must be one of {', '.join(SORT_KEYS)}")
    limit = query.integer("limit", PAGE_SIZE, least=1, most=LARGEST_PAGE)
    descending = query.text("order", "desc").lower() == "desc"
    ordered = sorted(found, key=lambda record: (key(record), record.id), reverse=descending)
    start = after_cursor(ordered, query.text("cursor", ""))
    page = ordered[start : start + limit]
    more = start + limit < len(ordered)
    return page, base64.urlsafe_b64encode(page[-1].id.encode()).decode() if more else None


def after_cursor(ordered: list[Record], cursor: str) -> int:
    if not cursor:
        return 0
    try:
        last = base64.urlsafe_b64decode(cursor.encode()).decode()
    except (binascii.Error, ValueError):
        raise ApiError(400, "cursor is not one this server gave") from None
    places = [place for place, record in enumerate(ordered) if record.id == last]
    return places[0] + 1 if places else len(ordered)


def snapshot_json(name: str) -> dict[str, Any]:
    """SnapshotDto of a seeded snapshot (wire-protocol, section 2)."""
    size = snapshots.SEEDED[name]
    return {
        "id": name, "name": name, "general": True, "state": "active", "size": None, "entrypoint": None, "cpu": size.cpu,
        "gpu": 0, "mem": size.memory, "disk": size.disk, "errorReason": None, "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z", "lastUsedAt": None, "imageName": name,
    }  # fmt: skip
