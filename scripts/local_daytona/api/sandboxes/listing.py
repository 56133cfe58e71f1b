"""What GET /sandbox and its deprecated sister show: Daytona's filters, its order, its pages."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from ...errors import ApiError
from ...http_json import Fields
from .records import TARGET, Record

PAGE_SIZE, LARGEST_PAGE = 100, 200
FRACTION = re.compile(r"\.\d+")  # of a second; strptime has one format with it and another without
# SandboxState of Daytona's description that one may ask for: what is destroyed is in no list.
STATES = tuple(
    """
        creating restoring destroying started stopped starting stopping error build_failed
        pending_build building_snapshot unknown pulling_snapshot archived archiving resizing
        snapshotting forking pausing paused resuming
    """.split()
)
SORT_KEYS: dict[str, Callable[[Record], Any]] = {
    "name": lambda record: record.name,
    "cpu": lambda record: record.cpu,
    "memoryGib": lambda record: record.memory,
    "diskGib": lambda record: record.disk,
    "lastActivityAt": lambda record: record.last_activity_at,
    "createdAt": lambda record: record.created_at,
}

# Of GET /sandbox/paginated, which SDKs up to 0.176 ask.
OLD_SORT_KEYS: dict[str, Callable[[Record], Any]] = {
    "id": lambda record: record.id,
    "name": lambda record: record.name,
    "state": lambda record: record.state,
    "snapshot": lambda record: record.snapshot,
    "region": lambda _record: TARGET,
    "updatedAt": lambda record: record.updated_at,
    "createdAt": lambda record: record.created_at,
}


def matches(record: Record, request: web.Request, *, minute: float) -> bool:
    """Whether every filter lets it through; raises the 400.

    Prefixes of id and name, all labels, any of the states and the like, sizes and times from, to.
    """
    query = Fields.of_query(request)
    refuse_unknown_states(request.query.getall("states", []))
    choices = {"states": record.state, "snapshots": record.snapshot, "regionIds": TARGET}
    flags = {"isPublic": record.public, "isRecoverable": record.recoverable}
    sizes = {"Cpu": record.cpu, "MemoryGiB": record.memory, "DiskGiB": record.disk}
    times = {
        "createdAt": record.created_at,
        "lastEvent": record.last_activity_at,
        "autoDestroyAt": record.expires_at(minute),
    }
    found = [  # all of them are read: a senseless one is a 400 whatever the others say
        record.id.startswith(query.text("id", "").lower()),
        record.name.lower().startswith(query.text("name", "").lower()),
        wanted_labels(query.text("labels", "{}")).items() <= record.labels.items(),
        *(value in request.query.getall(name, [value]) for name, value in choices.items()),
        *(query.boolean(name, value) == value for name, value in flags.items()),
        *(has_size(query, name, value) for name, value in sizes.items()),
        *(has_time(query, name, value) for name, value in times.items()),
    ]
    return all(found)


def refuse_unknown_states(states: Sequence[str]) -> None:
    unknown = next((state for state in states if state not in STATES), None)
    if unknown is not None:
        raise ApiError(400, f"states has {unknown!r}; they are {', '.join(STATES)}")


def has_size(query: Fields, name: str, value: int) -> bool:
    least, most = (query.integer(f"{end}{name}", value, least=1) for end in ("min", "max"))
    return least <= value <= most


def has_time(query: Fields, name: str, value: float | None) -> bool:
    return is_between(value, moment(query, f"{name}After"), moment(query, f"{name}Before"))


def is_between(value: float | None, after: float | None, before: float | None) -> bool:
    """Whether a time lies within the bounds given; what never happens, only without any bound."""
    if value is None:
        return after is None and before is None
    return (after is None or after <= value) and (before is None or value <= before)


def moment(query: Fields, name: str) -> float | None:
    """Seconds since the epoch, None when it was not asked for; raises the 400."""
    text = query.text(name, "")
    if not text:
        return None
    try:
        return datetime.datetime.strptime(FRACTION.sub("", text), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ValueError, OverflowError):
        raise ApiError(400, f"{name} must be a time such as 2026-01-02T03:04:05Z") from None


def wanted_labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ApiError(400, "labels must be a JSON object") from None
    return Fields({"labels": labels}).texts("labels")


def one_page(found: list[Record], query: Fields) -> tuple[list[Record], str | None]:
    """One page of `found`, and the cursor of the next.

    The cursor names the last one shown, so deletions do not shift it.
    """
    ordered, limit = in_order(found, query, SORT_KEYS, "lastActivityAt"), limit_of(query)
    start = after_cursor(ordered, query.text("cursor", ""))
    page = ordered[start : start + limit]
    more = start + limit < len(ordered)
    return page, base64.urlsafe_b64encode(page[-1].id.encode()).decode() if more else None


def numbered_page(found: list[Record], query: Fields) -> tuple[list[Record], dict[str, int]]:
    """One page of `found` by its number, and what the answer says beside it."""
    ordered, limit = in_order(found, query, OLD_SORT_KEYS, "createdAt"), limit_of(query)
    page = query.integer("page", 1, least=1)
    shown = ordered[(page - 1) * limit : page * limit]
    return shown, {"total": len(found), "page": page, "totalPages": -(-len(found) // limit)}


def limit_of(query: Fields) -> int:
    return query.integer("limit", PAGE_SIZE, least=1, most=LARGEST_PAGE)


def in_order(
    found: list[Record], query: Fields, keys: dict[str, Callable[[Record], Any]], default: str
) -> list[Record]:
    """Sorted as the query asks; raises the 400."""
    key = keys.get(query.text("sort", default))
    if key is None:
        raise ApiError(400, f"sort must be one of {', '.join(keys)}")
    order = query.text("order", "desc").lower()
    if order not in ("asc", "desc"):
        raise ApiError(400, "order must be asc or desc")
    return sorted(found, key=lambda record: (key(record), record.id), reverse=order == "desc")


def after_cursor(ordered: list[Record], cursor: str) -> int:
    if not cursor:
        return 0
    try:
        last = str(uuid.UUID(base64.urlsafe_b64decode(cursor.encode()).decode()))
    except (binascii.Error, ValueError):
        raise ApiError(400, "cursor is not one this server gave") from None
    places = [place for place, record in enumerate(ordered) if record.id == last]
    return places[0] + 1 if places else len(ordered)
