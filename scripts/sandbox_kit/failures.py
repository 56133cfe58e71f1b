"""Every way a run can fail: one kind, one exit code, one `fix:` line. Imported by --help too, so it stays light."""

from __future__ import annotations

import re

from .console import one_line

SCRIPT = r"python3 \{scripts\}/(\w+(?:\.py)?)"
TIMED_OUT, TOOL_FAILED, USAGE = 124, 125, 2
SIGNAL_BASE = 128


class Row:
    """What a kind means to the caller: the exit code, and what to type unless the failure knows better.

    In a fix, {scripts} stands for the folder of the scripts, because the caller is in another one. No dataclass: importing that
    module costs more than all of a --help.
    """

    __slots__ = ("exit_code", "fix")

    def __init__(self, exit_code: int, fix: str) -> None:
        self.exit_code = exit_code
        self.fix = fix


KINDS: dict[str, Row] = {
    "usage": Row(USAGE, "see --help"),
    "timeout": Row(TIMED_OUT, "give it more time with --timeout SECONDS, or do less in one run"),
    "interrupted": Row(SIGNAL_BASE + 2, "run it again; a sandbox that is left is named above"),
    "sdk_missing": Row(TOOL_FAILED, "python3 {scripts}/healthcheck.py --install"),
    "sdk_version": Row(TOOL_FAILED, "python3 {scripts}/healthcheck.py --install"),
    "no_credentials": Row(
        TOOL_FAILED, "export DAYTONA_API_KEY=... (from the Daytona dashboard), or add --local"
    ),
    "unauthorized": Row(
        TOOL_FAILED,
        "check DAYTONA_API_KEY: the server does not know this key; python3 {scripts}/healthcheck.py says where it comes from",
    ),
    "forbidden": Row(
        TOOL_FAILED,
        "give the API key the scopes write:sandboxes and delete:sandboxes in the Daytona dashboard",
    ),
    "not_found": Row(TOOL_FAILED, "list what there is: python3 {scripts}/sandboxes.py list"),
    "conflict": Row(TOOL_FAILED, "wait a moment and repeat it, or choose another --name"),
    "quota": Row(
        TOOL_FAILED,
        "delete what is not needed: python3 {scripts}/sandboxes.py list, then delete; or choose a smaller --snapshot",
    ),
    "tier_network": Row(
        TOOL_FAILED,
        "leave the network options out, or raise the organization's tier: this tier's network cannot be changed",
    ),
    "rate_limited": Row(TOOL_FAILED, "wait a minute and repeat it"),
    "invalid_request": Row(TOOL_FAILED, "change what the message names"),
    "image": Row(
        TOOL_FAILED,
        "use --snapshot daytona-small, daytona-medium or daytona-large; an image needs a tag other than latest",
    ),
    "network": Row(
        TOOL_FAILED,
        "check the network and DAYTONA_API_URL, then run python3 {scripts}/healthcheck.py; behind a proxy set HTTPS_PROXY",
    ),
    "server_error": Row(
        TOOL_FAILED,
        "repeat it in a minute; python3 {scripts}/healthcheck.py tells whether the endpoint is Daytona's",
    ),
    "create_timeout": Row(
        TOOL_FAILED,
        "repeat it; a new image takes minutes to build, a snapshot does not: --snapshot daytona-small",
    ),
    "create_failed": Row(TOOL_FAILED, "repeat it; when it fails again, choose another --snapshot"),
    "exec_failed": Row(TOOL_FAILED, "repeat it; with --keep the sandbox stays for a look"),
    "local_unavailable": Row(TOOL_FAILED, "python3 {scripts}/local_daytona status"),
    "host_access": Row(TOOL_FAILED, "name a path inside the working directory"),
    "archive": Row(TOOL_FAILED, "look at the files in the sandbox before you fetch them"),
    "internal": Row(TOOL_FAILED, "run it again with --debug and report what it prints"),
}


class Failure(Exception):
    """A run that failed; `kind` is a row of KINDS, `fix` the line to type."""

    def __init__(
        self, kind: str, message: str, *, fix: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        row = KINDS[kind]
        self.kind = kind
        self.message = one_line(message)
        self.fix = one_line(with_whole_paths(fix or row.fix))
        self.exit_code = row.exit_code if exit_code is None else exit_code
        self.status: int | None = None
        self.sandbox_id: str | None = None
        self.unsent = False  # the request never left this machine

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind, "message": self.message, "fix": self.fix}


def with_whole_paths(fix: str) -> str:
    """A fix as the caller can type it, from whatever folder."""
    if "{scripts}" not in fix:
        return fix
    import skill_env

    return re.sub(SCRIPT, lambda match: skill_env.command(match[1]), fix)


def stay_local(failure: Failure) -> Failure:
    """With a fix that stays on local Daytona, where the command came from."""
    failure.fix = failure.fix.replace('sandboxes.py" list', 'sandboxes.py" list --local')
    return failure


class UsageFailure(Failure):
    """The command line asks for something that cannot be; nothing was created."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__("usage", message, fix=fix)
