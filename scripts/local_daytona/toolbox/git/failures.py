"""What git's words mean: a status and one of Daytona's codes; no secret stays in the text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from ...errors import ApiError
from ...http_json import DAEMON

# Characters at the end: what git died of stands last, and no expression takes long on so few.
LOOKED_AT = 4096
SHOWN = 1500
IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
# (what git says, status, code), the first match wins; the SDK has a class for each GIT_ code.
FAILURES: tuple[tuple[str, int, str], ...] = (
    # The sandbox's proxy refused: its 403 is not about a password.
    (r"connect tunnel failed", 502, "GIT_TRANSPORT_FAILED"),
    (r"\[remote rejected\]|hook declined", 422, "GIT_REMOTE_REJECTED"),
    (r"\[rejected\]|non-fast-forward|fetch first|stale info", 409, "GIT_PUSH_REJECTED"),
    (
        r"authentication failed|could not read (username|password)|terminal prompts disabled"
        r"|invalid username or|permission denied \(publickey|returned error: 401",
        401,
        "GIT_AUTH_FAILED",
    ),
    (
        r"returned error: 403|remote: permission .*denied|write access to repository not granted",
        403,
        "FORBIDDEN",
    ),
    (r"transport '.*' not allowed|unable to find remote helper", 401, "GIT_AUTH_FAILED"),
    (
        r"pathspec '.*' did not match|is outside repository|must be run in a work tree",
        500,
        "INTERNAL_SERVER_ERROR",
    ),
    (r"needed a single revision", 404, "NOT_FOUND"),
    (
        r"remote branch .* not found|couldn't find remote ref|src refspec .* does not match"
        r"|invalid reference|unknown revision|bad revision|bad object|ambiguous argument"
        r"|not a valid object name|branch '.*' not found|does not have any commits"
        r"|reference is not a tree|not our ref|unadvertised object"
        r"|could not resolve ('|source)|failed to resolve|not currently on a branch"
        r"|is not a symbolic ref|upload-pack: not our",
        404,
        "GIT_BRANCH_NOT_FOUND",
    ),
    (
        r"not a git repository|does not appear to be a git repository|repository .*not found"
        r"|repository '.*' does not exist|no such remote|returned error: 404"
        r"|only be used inside a git repository",
        404,
        "GIT_REPO_NOT_FOUND",
    ),
    # What git says of ssh. There are no keys inside, and Daytona looks for one before it connects.
    (r"make sure you have the correct access rights|cannot run ssh", 401, "GIT_AUTH_FAILED"),
    (
        r"could not resolve (host|proxy)|failed to connect|couldn't connect"
        r"|connection (was )?(refused|timed out|reset|closed)|ssl|certificate|gnutls"
        r"|operation too slow|unable to access|could not read from remote|early eof|hung up"
        r"|timed out|empty reply|from proxy",
        502,
        "GIT_TRANSPORT_FAILED",
    ),
    (r"a branch named '.*' already exists", 409, "GIT_BRANCH_EXISTS"),
    (r"already exists", 409, "CONFLICT"),
    (
        r"would be overwritten|commit your changes or stash|unstaged changes"
        r"|uncommitted changes|not uptodate",
        409,
        "GIT_DIRTY_WORKTREE",
    ),
    (r"not possible to fast-forward|diverging", 409, "GIT_PUSH_REJECTED"),
    (
        r"conflict|unmerged|needs merge|not concluded your merge",
        409,
        "GIT_MERGE_CONFLICT",
    ),
    (
        r"nothing (added )?to commit|no changes added to commit|no space left",
        500,
        "INTERNAL_SERVER_ERROR",
    ),
    (r"cannot delete branch|checked out at|used by worktree", 409, "CONFLICT"),
    (r"permission denied|read-only file system|could not lock config", 403, "FILE_ACCESS_DENIED"),
)


def failure(code: int, said: str, secrets: Iterable[str] = ()) -> ApiError:
    """The answer for a git that ended with `code`; as in Daytona a 500 for what has no code."""
    lowered, text = said[-LOOKED_AT:].lower(), complaint(said, secrets)
    for pattern, status, name in FAILURES:
        if re.search(pattern, lowered):
            return ApiError(status, text, code=name, source=DAEMON)
    ended = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
    return ApiError(500, text or f"git {ended}", code="INTERNAL_SERVER_ERROR", source=DAEMON)


def complaint(said: str, secrets: Iterable[str]) -> str:
    """git's own lines without its hints, and without any of the secrets in any spelling."""
    lines = [
        line.strip()
        for line in said[-LOOKED_AT:].splitlines()
        if line.strip() and not line.startswith(("hint:", "Cloning into"))
    ]
    text = IN_URL.sub("", "\n".join(lines))
    for secret in secrets:
        for spelling in {secret, quote(secret), quote(secret, safe="")} - {""}:
            text = text.replace(spelling, "***")
    return text[-SHOWN:]
