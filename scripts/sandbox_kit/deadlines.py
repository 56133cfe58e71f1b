"""Deadlines: how long a sandbox, a command and a pause may last.

The server ends a sandbox at its ttl whatever happens to us, so every other time fits into it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .defaults import (
    AUTO_STOP_MARGIN_MIN,
    AUTO_STOP_MIN,
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_MIN,
    KEPT_TTL_MIN,
    SETUP_MARGIN_MIN,
    whole_minutes,
)
from .errors import UsageFailure


@dataclass(frozen=True)
class Deadlines:
    """Seconds for a step, minutes for the sandbox, idle minutes until it is stopped (0: never).

    The `given` ones are the user's own, for a sandbox that exists already.
    """

    timeout_s: int = DEFAULT_TIMEOUT_S
    ttl_min: int = DEFAULT_TTL_MIN
    auto_stop_min: int = AUTO_STOP_MIN
    given_ttl_min: int | None = None
    given_auto_stop_min: int | None = None

    @classmethod
    def of_run(cls, given: argparse.Namespace) -> Deadlines:
        """Raises UsageFailure for an end that comes before the program's."""
        return cls(
            timeout_s=given.timeout or DEFAULT_TIMEOUT_S,
            ttl_min=choose_ttl(given),
            auto_stop_min=choose_auto_stop(given),
            given_ttl_min=given.ttl,
            given_auto_stop_min=given.auto_stop,
        )


def choose_ttl(given: argparse.Namespace) -> int:
    """Minutes of the sandbox's life; raises UsageFailure when the user's are too few."""
    timeout_s = given.timeout or DEFAULT_TIMEOUT_S
    steps = max(1, len(given.command)) + len(given.setup) + waits_for_a_server(given)
    needed = SETUP_MARGIN_MIN + (0 if given.detach else whole_minutes(timeout_s * steps))
    if given.ttl is not None and given.ttl < needed:
        raise UsageFailure(
            f"--ttl {given.ttl} ends before --timeout {timeout_s} can", fix=f"--ttl {needed}"
        )
    keeps = given.keep or given.name or given.detach or given.preview
    return int(given.ttl or max(KEPT_TTL_MIN if keeps else DEFAULT_TTL_MIN, needed))


def waits_for_a_server(given: argparse.Namespace) -> bool:
    """For its port, before the program beside it begins."""
    has_program = given.command or given.code is not None or given.file is not None
    return given.serve is not None and bool(has_program)


def choose_auto_stop(given: argparse.Namespace) -> int:
    """What goes on by itself must not be stopped as idle: its ttl ends it."""
    timeout_s = given.timeout or DEFAULT_TIMEOUT_S
    needed = max(AUTO_STOP_MIN, whole_minutes(timeout_s) + AUTO_STOP_MARGIN_MIN)
    if given.auto_stop is None:
        return 0 if given.detach or given.preview else needed
    if 0 < given.auto_stop < needed and given.timeout is not None:
        raise UsageFailure(
            f"--auto-stop {given.auto_stop} may end it before --timeout {timeout_s} does",
            fix=f"--auto-stop {needed}",
        )
    return int(given.auto_stop)


def is_longer(ttl_min: int, expires_at: str | None) -> bool:
    """Whether a ttl from now on ends later than `expires_at`; what has no end outlives any."""
    from datetime import datetime, timedelta, timezone

    try:
        end = datetime.fromisoformat((expires_at or "").replace("Z", "+00:00"))
    except ValueError:
        return False
    if end.tzinfo is None:
        end = end.replace(tzinfo=timezone.utc)
    return datetime.now(timezone.utc) + timedelta(minutes=ttl_min) > end


def idles_longer(auto_stop_min: int, before_min: int | None, *, ends: bool) -> bool:
    """Whether it is stopped as idle later than before, 0 for never: only what `ends` otherwise."""
    if auto_stop_min == 0:
        return ends
    return before_min is not None and 0 < before_min < auto_stop_min
