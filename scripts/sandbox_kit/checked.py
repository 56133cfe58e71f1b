"""What a server says, checked where it comes in: ids, names, moments, states, links, exit codes.

The server may be anybody's, or lie.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .console import one_line
from .defaults import SANDBOX_NAME
from .errors import Failure

# Daytona's ids are UUIDs; whatever a server uses becomes part of addresses and commands to paste.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
STATE = re.compile(r"[a-z][a-z_]{0,40}")
LINK = re.compile(r"https?://[A-Za-z0-9._~:/?#@%&=+,\[\]-]{1,1500}")
LONGEST_NAME = 200
LONGEST_REASON = 500
LAST_EXIT_CODE = 255


def checked_id(value: object) -> str:
    """Raises Failure server_error for what is no id."""
    text = str(value)
    if ID.fullmatch(text) is None:
        raise Failure(
            "server_error",
            f"the server sent an invalid id: {one_line(ascii(text), LONGEST_NAME)}",
        )
    return text


def checked_name(value: object) -> str:
    """A name is free text: one bounded line of it, in quotes where it is more than a word."""
    text = str(value)
    return text if re.fullmatch(SANDBOX_NAME, text) else one_line(ascii(text), LONGEST_NAME)


def checked_moment(value: object) -> str | None:
    """ISO 8601, else None: a moment that cannot be read is not known."""
    text = str(value)
    return text if MOMENT.fullmatch(text) else None


def checked_words(value: object) -> str | None:
    """A reason in the server's words, as one bounded line; None when it gave none."""
    return one_line(str(value), LONGEST_REASON) or None if value else None


def checked_state(value: object) -> str:
    text = str(value)
    return text if STATE.fullmatch(text) else "unknown"


def checked_link(value: object) -> str:
    """An http or https address with a host and no credentials; raises Failure server_error."""
    text = str(value)
    try:
        parts = urlsplit(text if LINK.fullmatch(text) else "")
        good = (
            bool(parts.hostname)
            and not set("@%") & set(parts.netloc)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        good = False
    if not good:
        raise Failure(
            "server_error",
            f"the server sent an invalid link: {one_line(ascii(text), LONGEST_NAME)}",
        )
    return text


def checked_exit_code(value: object) -> int:
    """0 to 255, as a shell knows them; what is outside has surely not succeeded.

    Raises Failure server_error when there is none.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or value != value
        or value in (float("inf"), float("-inf"))
    ):
        raise Failure("server_error", "the server answered a command without its exit code")
    code = int(value)
    return code if 0 <= code <= LAST_EXIT_CODE else LAST_EXIT_CODE
