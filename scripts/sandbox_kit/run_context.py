"""What a run is made with: what all runs of one process share, and the record of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .archive.packing import PackedUpload
from .host_access import HostAccess
from .output import ProgramOutput
from .ownership import RunIdentity, User
from .report import RunReport
from .sdk import Client
from .settings import Settings
from .status_log import StatusLog


@dataclass(frozen=True)
class RunContext:
    """One connection pool, one packed upload, one voice."""

    client: Client
    settings: Settings
    user: User
    access: HostAccess
    status: StatusLog
    packed: PackedUpload | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)  # path inside -> id
    # One run writes here at a time: a folder that another has just made is not on record yet.
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Of a run among many: what stands before each of its lines, and who it is.
    label: str = ""
    identity: RunIdentity | None = None

    def of_value(self, label: str, identity: RunIdentity) -> RunContext:
        """The same for one of many runs, whose progress is not told line by line."""
        status = self.status.labelled(label)
        return replace(self, status=status, label=label, identity=identity)


@dataclass(frozen=True)
class RunRecord:
    """Filled as the run goes on, so that a failure leaves what there was."""

    identity: RunIdentity
    report: RunReport
    output: ProgramOutput
