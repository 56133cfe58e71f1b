"""The snapshots local Daytona has: one template in three sizes, named as Daytona's own ready-made ones."""

from __future__ import annotations

from ..engine.limits import Resources
from ..wire import ApiError

DEFAULT = "daytona-small"
SEEDED = {
    DEFAULT: Resources(cpu=1, memory=1, disk=3),
    "daytona-medium": Resources(cpu=2, memory=4, disk=8),
    "daytona-large": Resources(cpu=4, memory=8, disk=10),
}


def resources_of(snapshot: str) -> Resources:
    """The size of a snapshot by name; raises the 400 that names those there are."""
    try:
        return SEEDED[snapshot]
    except KeyError:
        raise ApiError(400, f"Snapshot {snapshot} not found: local Daytona has {', '.join(SEEDED)}") from None
