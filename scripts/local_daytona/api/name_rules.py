"""Which names sandboxes and volumes may have: all but HTML, addresses and control characters."""

from __future__ import annotations

import re

from ..errors import ApiError

LONGEST = 255
NO_NAME = re.compile(r"[\x00-\x1f\x7f]|<[^>]*>|[a-z][a-z0-9+.-]*://|\bwww\.", re.IGNORECASE)


def checked_name(name: str) -> str:
    """Raises the 400."""
    if not name or len(name) > LONGEST:
        raise ApiError(400, f"name must have 1 to {LONGEST} characters")
    if NO_NAME.search(name):
        raise ApiError(400, "name must not hold HTML, an address or control characters")
    return name
