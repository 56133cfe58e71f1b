"""Blocks that are not run, each with its reason. A name that no page has fails, so the list cannot rot."""

from __future__ import annotations

# Emptied by issue C, which brings git and egress to local Daytona.
WAITS_FOR_ISSUE_C: dict[str, str] = {}

# Needs a tool or an account that the suite does not have; checked in another way, which the reason names.
ANOTHER_MACHINE: dict[str, str] = {}
