"""What travels between `sdk` and the rest of the kit: plain values.

Also how they come from the SDK's and go into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..checked import checked_id, checked_moment, checked_name, checked_state, checked_words
from ..network_rule import NetworkRule
from ..ownership import RunIdentity

LANGUAGE_LABEL = "code-toolbox-language"  # where Daytona keeps what code_run speaks


@dataclass(frozen=True)
class CreateSpec:
    """What a sandbox shall be; sizes in GiB, times in minutes."""

    identity: RunIdentity
    labels: Mapping[str, str]  # the user's own, beside the identity's
    ephemeral: bool
    auto_stop_min: int
    ttl_min: int
    language: str = "python"
    snapshot: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    target: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)  # variable -> name in the vault
    volumes: Mapping[str, str] = field(default_factory=dict)  # path inside -> id
    network: NetworkRule = field(default_factory=NetworkRule)

    @property
    def name(self) -> str:
        return self.identity.name


@dataclass(frozen=True)
class SandboxInfo:
    """What is known of a sandbox, as lists show it; memory and disk in GiB."""

    id: str
    name: str
    state: str
    created_at: str | None
    expires_at: str | None
    labels: dict[str, str] = field(default_factory=dict)
    public: bool = False
    network: NetworkRule = field(default_factory=NetworkRule)  # what the server says of its network
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    error_reason: str | None = None  # why the server ended it, in the server's words
    recoverable: bool = False  # the server can start it again with its files
    auto_stop_min: int | None = None
    ephemeral: bool = False  # deleted when it stops


@dataclass(frozen=True)
class VolumeInfo:
    """A volume of the account."""

    id: str
    name: str
    state: str


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot of the account."""

    id: str
    name: str
    state: str
    created_at: str | None = None
    error_reason: str | None = None


@dataclass(frozen=True)
class SessionCommand:
    """A command of a session; `exit_code` is None while it runs."""

    session: str
    id: str
    text: str
    exit_code: int | None


def info_of(sandbox: Any) -> SandboxInfo:
    """Of the generated `Sandbox` or `SandboxListItem`, checked.

    Raises Failure server_error for an id that is none.
    """
    return SandboxInfo(
        id=checked_id(sandbox.id),
        name=checked_name(sandbox.name),
        state=state_of(sandbox),
        created_at=text_of(sandbox.created_at),
        expires_at=text_of(getattr(sandbox, "auto_destroy_at", None)),
        labels=dict(sandbox.labels or {}),
        public=bool(getattr(sandbox, "public", False)),
        network=network_of(sandbox),
        cpu=whole_number(sandbox, "cpu"),
        memory=whole_number(sandbox, "memory"),
        disk=whole_number(sandbox, "disk"),
        error_reason=checked_words(getattr(sandbox, "error_reason", None)),
        recoverable=bool(getattr(sandbox, "recoverable", False)),
        auto_stop_min=whole_number(sandbox, "auto_stop_interval"),
        ephemeral=whole_number(sandbox, "auto_delete_interval") == 0,
    )


def volume_of(volume: Any) -> VolumeInfo:
    """Checked; raises Failure server_error for an id that is none."""
    return VolumeInfo(checked_id(volume.id), checked_name(volume.name), state_of(volume))


def snapshot_of(snapshot: Any) -> SnapshotInfo:
    """Checked; raises Failure server_error for an id that is none."""
    return SnapshotInfo(
        checked_id(snapshot.id),
        checked_name(snapshot.name),
        state_of(snapshot),
        text_of(snapshot.created_at),
        checked_words(getattr(snapshot, "error_reason", None)),
    )


def state_of(sandbox: Any) -> str:
    return checked_state(getattr(sandbox.state, "value", sandbox.state))


def network_of(sandbox: Any) -> NetworkRule:
    """The network rule that a sandbox has; a list item of the server's says nothing of it."""
    return NetworkRule(
        block_all=bool(getattr(sandbox, "network_block_all", False)),
        domains=parts_of(getattr(sandbox, "domain_allow_list", None)),
        cidrs=parts_of(getattr(sandbox, "network_allow_list", None)),
    )


def parts_of(text: Any) -> tuple[str, ...]:
    return tuple(part.strip().lower() for part in str(text or "").split(",") if part.strip())


def whole_number(sandbox: Any, name: str) -> int | None:
    """The generated clients make floats of all numbers."""
    value = getattr(sandbox, name, None)
    return None if value is None else int(value)


def text_of(moment: Any) -> str | None:
    return checked_moment(moment.isoformat() if isinstance(moment, datetime) else moment)


def network_settings(rule: NetworkRule) -> dict[str, Any]:
    """One of the three, as the SDK names them: Daytona takes no two together."""
    if rule.domains:
        return {"domain_allow_list": ",".join(rule.domains)}
    if rule.cidrs:
        return {"network_allow_list": ",".join(rule.cidrs)}
    return {"network_block_all": rule.block_all}
