"""What git's words mean: a status and one of Daytona's codes, and nothing in the text that was secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from ..wire import DAEMON, ApiError

LOOKED_AT = 4096  # characters at the end: what git died of stands last, and no expression takes long on so few
SHOWN = 1500
IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
# (what git says, status, code), the first match wins; the SDK has a class for each GIT_ code.
FAILURES: tuple[tuple[str, int, str], ...] = (
    (
        r"connect tunnel failed",
        502,
        "GIT_TRANSPORT_FAILED",
    ),  # the sandbox's proxy refused: its 403 is not about a password
    (r"\[remote rejected\]|hook declined", 422, "GIT_REMOTE_REJECTED"),
    (r"\[rejected\]|non-fast-forward|fetch first|stale info", 409, "GIT_PUSH_REJECTED"),
    (
        r"authentication failed|could not read (username|password)|terminal prompts disabled|invalid username or|permission denied \(publickey"
        r"|returned error: 401",
        401,
        "GIT_AUTH_FAILED",
    ),
    (
        r"returned error: 403|remote: permission .*denied|write access to repository not granted",
        403,
        "FORBIDDEN",
    ),
    (r"transport '.*' not allowed|unable to find remote helper", 400, "BAD_REQUEST"),
    (r"pathspec '.*' did not match", 404, "FILE_NOT_FOUND"),
    (
        r"remote branch .* not found|couldn't find remote ref|src refspec .* does not match|invalid reference|unknown revision|bad revision"
        r"|bad object|ambiguous argument|not a valid object name|branch '.*' not found|does not have any commits|reference is not a tree"
        r"|not our ref|unadvertised object|could not resolve ('|source)|failed to resolve|not currently on a branch|is not a symbolic ref"
        r"|upload-pack: not our",
        404,
        "GIT_BRANCH_NOT_FOUND",
    ),
    (
        r"not a git repository|does not appear to be a git repository|repository .*not found|repository '.*' does not exist|no such remote"
        r"|returned error: 404|only be used inside a git repository|must be run in a work tree",
        404,
        "GIT_REPO_NOT_FOUND",
    ),
    (
        r"could not resolve (host|proxy)|failed to connect|couldn't connect|connection (was )?(refused|timed out|reset|closed)|ssl|certificate"
        r"|gnutls|operation too slow|unable to access|could not read from remote|early eof|hung up|timed out|empty reply|from proxy",
        502,
        "GIT_TRANSPORT_FAILED",
    ),
    (r"a branch named '.*' already exists", 409, "GIT_BRANCH_EXISTS"),
    (r"already exists", 409, "CONFLICT"),
    (
        r"would be overwritten|commit your changes or stash|unstaged changes|uncommitted changes|not uptodate",
        409,
        "GIT_DIRTY_WORKTREE",
    ),
    (
        r"not possible to fast-forward|diverging|conflict|unmerged|needs merge|not concluded your merge",
        409,
        "GIT_MERGE_CONFLICT",
    ),
    (
        r"nothing (added )?to commit|no changes added to commit|cannot delete branch|checked out at|used by worktree",
        409,
        "CONFLICT",
    ),
    (r"no space left", 507, "DISK_FULL"),
    (r"permission denied|read-only file system|could not lock config", 403, "FILE_ACCESS_DENIED"),
)


def failure(code: int, said: str, secrets: Iterable[str] = ()) -> ApiError:
    """The answer for a git that ended with `code`; what no pattern knows is a 400, because the caller asked for it."""
    lowered = said[-LOOKED_AT:].lower()
    for pattern, status, name in FAILURES:
        if re.search(pattern, lowered):
            return ApiError(status, complaint(said, secrets), code=name, source=DAEMON)
    text = complaint(said, secrets) or (
        f"git was ended by signal {-code}" if code < 0 else f"git ended with exit code {code}"
    )
    return ApiError(400, text, code="BAD_REQUEST", source=DAEMON)


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
