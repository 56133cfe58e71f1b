"""HTTP of the control plane, prefix /api: requests in Daytona's words as calls on Sandboxes.

PROTOCOL.md, "Sandboxes", has the words.
"""

from __future__ import annotations

import builtins
import re
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...errors import ApiError, now
from ...http_json import Fields, answer, integer
from ..builds.dockerfile import OWN_USERS
from ..builds.service import Builds, plan_of
from ..configuration import LONGEST_INTERVAL_MIN
from ..name_rules import checked_name
from ..snapshots.service import DEFAULT, SEEDED, Snapshot, Snapshots, requested_size
from ..volumes.service import Volumes
from . import network
from .listing import matches, numbered_page, one_page
from .records import DEFAULT_AUTO_ARCHIVE_MIN, DEFAULT_AUTO_STOP_MIN, NO_AUTO_DELETE, TARGET, Record
from .register import ManagedSandbox, Register
from .service import Sandboxes

ENV_NAME = re.compile(r"[^=\x00]+")
LANGUAGES = ("python", "typescript", "javascript")
LANGUAGE_LABEL = "code-toolbox-language"
SIZES = ("cpu", "memory", "disk")
LEAST = -(2**31)
LARGEST_ENV = 64 * 1024  # it travels with every exec in one message of 128 KiB
# What only the cloud can do, with the way out; a 501 at create rather than ignored.
CLOUD_ONLY = {
    "secrets": "has no secret vault; pass a throwaway value as env, or use the cloud",
    "outboundProxyUrl": (
        "goes out through its own HTTPS_PROXY, if any; leave outboundProxyUrl out, or use the cloud"
    ),
    "linkedSandbox": "does not link sandboxes; use the cloud",
    "gpu": "has no GPU; use the cloud",
    "gpuType": "has no GPU; use the cloud",
    "otelEndpointOverride": "sends no telemetry; leave otelEndpointOverride out, or use the cloud",
    "kvm": "has no virtual machines; use the cloud",
    "spot": "has no spot machines; use the cloud",
    "autoPauseInterval": "cannot pause; use autoStopInterval",
}


class SandboxRoutes:
    """Handlers over sandboxes, and what a create may name: snapshots, builds, volumes."""

    def __init__(
        self,
        register: Register,
        sandboxes: Sandboxes,
        snapshots: Snapshots,
        builds: Builds,
        volumes: Volumes,
        *,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._register = register
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._builds = builds
        self._volumes = volumes
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        one = "/api/sandbox/{id}"
        return [
            web.get("/local/status", self.status),
            web.post("/api/sandbox", self.create),
            web.get("/api/sandbox", self.list),
            web.get("/api/sandbox/paginated", self.list_by_number),
            web.get(one, self.get),
            web.delete(one, self.delete),
            web.post(one + "/start", self.start),
            web.post(one + "/stop", self.stop),
            web.put(one + "/labels", self.set_labels),
            web.post(one + "/autostop/{minutes}", self.set_interval("auto_stop_interval")),
            web.post(
                one + "/autoarchive/{minutes}",
                self.set_interval("auto_archive_interval", archive_interval),
            ),
            web.post(
                one + "/autodelete/{minutes}",
                self.set_interval("auto_delete_interval", least=LEAST),
            ),
            web.post(one + "/ttl/{minutes}", self.set_ttl),
            web.post(one + "/last-activity", self.refresh_activity),
            web.get(one + "/toolbox-proxy-url", self.toolbox_url),
            web.post(one + "/archive", self.archive),
            web.post(one + "/resize", self.resize),
            web.post(one + "/recover", self.recover),
        ]

    async def status(self, _request: web.Request) -> web.Response:
        return answer(self._status())

    async def create(self, request: web.Request) -> web.Response:
        """Answers once a sandbox from a snapshot is started, and before one is built."""
        fields = await Fields.of_body(request)
        refuse_cloud_only(fields)
        plan = plan_of(fields, self._snapshots)
        base = plan.base if plan else self._snapshot_of(fields)
        record = new_record(fields, base)
        record.volumes = self._volumes.requested(fields)
        if plan is not None:
            return self._shown(await self._builds.sandbox(record, plan))
        with self._snapshots.held(base):
            return self._shown(await self._sandboxes.create(record, base))

    def _snapshot_of(self, fields: Fields) -> Snapshot:
        return self._snapshots.usable(fields.text("snapshot", DEFAULT) or DEFAULT)

    def _shown(self, record: Record) -> web.Response:
        return answer(self._register.as_json(record))

    async def get(self, request: web.Request) -> web.Response:
        return self._shown(self._find(request).record)

    async def list(self, request: web.Request) -> web.Response:
        page, cursor = one_page(self._wanted(request), Fields.of_query(request))
        items = [self._register.as_list_item(record) for record in page]
        return answer({"items": items, "nextCursor": cursor})

    async def list_by_number(self, request: web.Request) -> web.Response:
        """The deprecated call, whose items are whole sandboxes (PROTOCOL.md, "Sandboxes")."""
        page, numbers = numbered_page(self._wanted(request), Fields.of_query(request))
        return answer({"items": [self._register.as_json(record) for record in page], **numbers})

    def _wanted(self, request: web.Request) -> builtins.list[Record]:
        minute = self._register.minute
        records = [managed.record for managed in self._register]
        matches(
            Record("", "", "", 1, 1, 1), request, minute=minute
        )  # for its 400: there may be none
        return [record for record in records if matches(record, request, minute=minute)]

    async def delete(self, request: web.Request) -> web.Response:
        return self._shown(await self._sandboxes.delete(self._find(request)))

    async def start(self, request: web.Request) -> web.Response:
        return self._shown(await self._sandboxes.start(self._find(request)))

    async def stop(self, request: web.Request) -> web.Response:
        return self._shown(await self._sandboxes.stop(self._find(request)))

    async def set_labels(self, request: web.Request) -> web.Response:
        managed = self._find(request)
        labels = checked_labels((await Fields.of_body(request)).scalars("labels"))
        await self._register.change(managed, labels=labels)
        return answer({"labels": labels})

    def set_interval(
        self, field: str, meant: Callable[[int], int] = int, *, least: int = 0
    ) -> Callable[[web.Request], Any]:
        """A handler that sets this field of the record, to what Daytona makes of the minutes."""

        async def handler(request: web.Request) -> web.Response:
            values = {field: meant(path_minutes(request, least=least))}
            return self._shown(await self._register.change(self._find(request), **values))

        return handler

    async def set_ttl(self, request: web.Request) -> web.Response:
        """Restarts the wall-clock life from now; 0 switches it off."""
        values = {"ttl_minutes": path_minutes(request, least=0), "ttl_from": now()}
        return self._shown(await self._register.change(self._find(request), **values))

    async def refresh_activity(self, request: web.Request) -> web.Response:
        self._find(request).record.last_activity_at = now()
        return web.Response(status=201)

    async def toolbox_url(self, request: web.Request) -> web.Response:
        shown = self._register.as_json(self._find(request).record)
        return answer({"url": shown["toolboxProxyUrl"]})

    async def archive(self, request: web.Request) -> web.Response:
        return self._shown(await self._sandboxes.archive(self._find(request)))

    async def resize(self, request: web.Request) -> web.Response:
        fields, managed = await Fields.of_body(request), self._find(request)
        if not any(fields.has(name) for name in SIZES):
            raise ApiError(400, f"At least one of {', '.join(SIZES)} must be given")
        size = requested_size(fields, managed.record.resources)
        return self._shown(await self._sandboxes.resize(managed, size))

    async def recover(self, request: web.Request) -> web.Response:
        return self._shown(await self._sandboxes.recover_from_error(self._find(request)))

    def _find(self, request: web.Request) -> ManagedSandbox:
        return self._register.find(request.match_info["id"])


def new_record(fields: Fields, base: Snapshot) -> Record:
    """A record from a create request that starts from `base`; raises the 400."""
    size = requested_size(fields, base.resources)
    sandbox_id = str(uuid.uuid4())
    name = checked_name(fields.text("name", "") or sandbox_id)
    moment = now()
    return Record(
        id=sandbox_id,
        name=name,
        snapshot=base.name,
        image_env=dict(base.env),
        work_dir=base.work_dir,
        entrypoint=base.entrypoint,
        cpu=size.cpu,
        memory=size.memory,
        disk=size.disk,
        env=checked_env(fields.scalars("env")),
        labels=checked_labels(fields.scalars("labels")),
        public=fields.boolean("public"),
        **network.at_create(fields),
        auto_stop_interval=fields.integer("autoStopInterval", DEFAULT_AUTO_STOP_MIN),
        auto_archive_interval=archive_interval(
            fields.integer("autoArchiveInterval", DEFAULT_AUTO_ARCHIVE_MIN)
        ),
        # Whatever is negative switches it off.
        auto_delete_interval=fields.integer("autoDeleteInterval", NO_AUTO_DELETE, least=LEAST),
        ttl_minutes=fields.integer("ttlMinutes", 0),
        ttl_from=moment,
        created_at=moment,
    )


def archive_interval(minutes: int) -> int:
    """0 and what is too long are the longest."""
    return min(minutes or LONGEST_INTERVAL_MIN, LONGEST_INTERVAL_MIN)


def refuse_cloud_only(fields: Fields) -> None:
    for name, sentence in CLOUD_ONLY.items():
        if fields.any(name):
            raise ApiError(501, f"local Daytona {sentence}")
    if fields.text("user", "") not in ("", *OWN_USERS):
        one_user = "a sandbox of local Daytona has one user, daytona"
        raise ApiError(501, f"{one_user}; leave os_user out, or use the cloud")
    if fields.has("buildInfo") and fields.any("snapshot"):
        raise ApiError(400, "Cannot specify a snapshot when using a build info managed")
    if any(fields.has(name) for name in SIZES) and not fields.has("buildInfo"):
        message = "Cannot specify Sandbox resources when using a snapshot"
        raise ApiError(400, f"{message}; the sizes are {', '.join(SEEDED)}")
    if fields.any("target") not in (None, "", TARGET):
        # A region of the cloud, which the SDK sends along from its configuration, means nothing
        # here; it must be a string all the same.
        fields.text("target")


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
