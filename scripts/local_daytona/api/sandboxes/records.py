"""What is known of a sandbox: the record that the store keeps and that clients see."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ...egress.policy import Rules, parse_cidrs, parse_domains
from ...errors import iso, now
from ...isolation.limits import Resources
from ..snapshots.service import build_info

ORGANIZATION = "local"
TARGET = "local"
DEFAULT_AUTO_STOP_MIN = 15
DEFAULT_AUTO_ARCHIVE_MIN = 7 * 24 * 60
NO_AUTO_DELETE = -1


@dataclass
class Record:
    """One sandbox. Times are seconds since the epoch, intervals minutes.

    0 or -1 switch an interval off, as PROTOCOL.md, "Sandboxes", says of each.
    """

    id: str
    name: str
    snapshot: str
    cpu: int
    memory: int
    disk: int
    state: str = "creating"
    user: str = "daytona"
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    public: bool = False
    preview_address: str | None = None
    # A port inside: the port of its preview.
    preview_ports: dict[str, int] = field(default_factory=dict)
    # Digest of a token: its port, and when it expires.
    signed_previews: dict[str, dict[str, float]] = field(default_factory=dict)
    signing_key: str = field(default="", repr=False)  # of links to files
    network_block_all: bool = False
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    auto_stop_interval: int = DEFAULT_AUTO_STOP_MIN
    auto_archive_interval: int = DEFAULT_AUTO_ARCHIVE_MIN
    auto_delete_interval: int = NO_AUTO_DELETE
    ttl_minutes: int = 0
    ttl_from: float = 0.0
    created_at: float = field(default_factory=now)
    updated_at: float = field(default_factory=now)
    last_activity_at: float = field(default_factory=now)
    stopped_at: float = 0.0
    error_reason: str | None = None
    # What the snapshot's build set; the sandbox's own wins.
    image_env: dict[str, str] = field(default_factory=dict)
    work_dir: str | None = None  # the build's last WORKDIR
    entrypoint: list[str] | None = None
    volumes: list[dict[str, str]] = field(default_factory=list)
    dockerfile: str | None = None

    @property
    def resources(self) -> Resources:
        return Resources(cpu=self.cpu, memory=self.memory, disk=self.disk)

    @property
    def rules(self) -> Rules:
        """What the network settings, which were checked when they came, allow."""
        return Rules(
            self.network_block_all,
            parse_cidrs(self.network_allow_list or ""),
            parse_domains(self.domain_allow_list or ""),
        )

    @property
    def ephemeral(self) -> bool:
        """Daytona's meaning: deleted as soon as it stops."""
        return self.auto_delete_interval == 0

    @property
    def recoverable(self) -> bool:
        """What ended in `error` used too much: it starts again with its files."""
        return self.state == "error"

    def expires_at(self, minute: float) -> float | None:
        """When the ttl ends it, with `minute` seconds to a minute; None without a ttl."""
        return self.ttl_from + self.ttl_minutes * minute if self.ttl_minutes else None

    def as_stored(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> Record:
        """A record of this or an older version: unknown fields go, new ones take their default."""
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def list_item(record: Record, *, toolbox_url: str, minute: float) -> dict[str, Any]:
    """SandboxListItem: what `list` shows (PROTOCOL.md, "Sandboxes")."""
    expires, build = record.expires_at(minute), None
    if record.dockerfile is not None:
        build = build_info(record.dockerfile, record.created_at, record.id)
    item = {
        "id": record.id,
        "organizationId": ORGANIZATION,
        "name": record.name,
        "user": record.user,
        "labels": record.labels,
        "public": record.public,
        "networkBlockAll": record.network_block_all,
        "networkAllowList": record.network_allow_list,
        "domainAllowList": record.domain_allow_list,
        "target": TARGET,
        "cpu": record.cpu,
        "gpu": 0,
        "memory": record.memory,
        "disk": record.disk,
        "state": record.state,
        "desiredState": desired(record.state),
        "snapshot": record.snapshot or None,
        "volumes": record.volumes,
        "buildInfo": build,
        "errorReason": record.error_reason,
        "recoverable": True if record.recoverable else None,
        "autoStopInterval": record.auto_stop_interval,
        "autoArchiveInterval": record.auto_archive_interval,
        "autoDeleteInterval": record.auto_delete_interval,
        "createdAt": iso(record.created_at),
        "updatedAt": iso(record.updated_at),
        "lastActivityAt": iso(record.last_activity_at),
        "toolboxProxyUrl": toolbox_url,
        "autoDestroyAt": None if expires is None else iso(expires),
    }
    return {name: value for name, value in item.items() if value is not None}


def sandbox(record: Record, *, toolbox_url: str, minute: float) -> dict[str, Any]:
    """Sandbox: the list item with what only `get` shows."""
    item = list_item(record, toolbox_url=toolbox_url, minute=minute)
    return {**item, "env": record.env, "kvm": False}


def desired(state: str) -> str:
    """Where a state is heading, or was when it failed, in Daytona's words, of which it has six."""
    return DESIRED.get(state, "started")


DESIRED = {
    "stopping": "stopped",
    "stopped": "stopped",
    "archiving": "archived",
    "archived": "archived",
    "destroying": "destroyed",
    "destroyed": "destroyed",
}
