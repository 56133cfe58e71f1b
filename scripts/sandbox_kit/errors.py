"""Every way a run can fail: one kind, one exit code, one `fix:` line.

Errors of the SDK and the system become ours here. Imported by --help too, so it stays light.
"""

from __future__ import annotations

import re

from .console import CUT, one_line, quote_path

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Kind = Literal[
        "usage",
        "timeout",
        "interrupted",
        "sdk_missing",
        "sdk_version",
        "no_credentials",
        "unauthorized",
        "forbidden",
        "not_found",
        "conflict",
        "quota",
        "tier_network",
        "rate_limited",
        "invalid_request",
        "image",
        "network",
        "server_error",
        "create_timeout",
        "create_failed",
        "exec_failed",
        "local_unavailable",
        "host_access",
        "archive",
        "internal",
    ]

SCRIPT = r"python3 \{scripts\}/(\w+(?:\.py)?)"
TIMED_OUT, TOOL_FAILED, USAGE = 124, 125, 2
SIGNAL_BASE = 128


class KindRow:
    """A kind's exit code, and what to type unless the failure knows better.

    In a fix, {scripts} stands for the folder of the scripts, because the caller is in another one.
    No dataclass: importing that module costs more than all of a --help.
    """

    __slots__ = ("exit_code", "fix")

    def __init__(self, exit_code: int, fix: str) -> None:
        self.exit_code = exit_code
        self.fix = fix


KINDS: Mapping[Kind, KindRow] = {
    "usage": KindRow(USAGE, "see --help"),
    "timeout": KindRow(
        TIMED_OUT, "give it more time with --timeout SECONDS, or do less in one run"
    ),
    "interrupted": KindRow(SIGNAL_BASE + 2, "run it again; a sandbox that is left is named above"),
    "sdk_missing": KindRow(TOOL_FAILED, "python3 {scripts}/healthcheck.py --install"),
    "sdk_version": KindRow(TOOL_FAILED, "python3 {scripts}/healthcheck.py --install"),
    "no_credentials": KindRow(
        TOOL_FAILED,
        "ask the user for a key from the Daytona dashboard: export DAYTONA_API_KEY=...;"
        " --local needs none, for untrusted code only after the user's yes",
    ),
    "unauthorized": KindRow(
        TOOL_FAILED,
        "check DAYTONA_API_KEY: the server does not know this key;"
        " python3 {scripts}/healthcheck.py says where it comes from",
    ),
    "forbidden": KindRow(
        TOOL_FAILED,
        "give the API key the scopes write:sandboxes and delete:sandboxes (and those of snapshots"
        " or volumes, where it uses them) in the Daytona dashboard",
    ),
    "not_found": KindRow(TOOL_FAILED, "list what there is: python3 {scripts}/sandboxes.py list"),
    "conflict": KindRow(TOOL_FAILED, "wait a moment and repeat it, or choose another --name"),
    "quota": KindRow(
        TOOL_FAILED,
        "delete what is not needed: python3 {scripts}/sandboxes.py list, then delete;"
        " or choose a smaller --snapshot",
    ),
    "tier_network": KindRow(
        TOOL_FAILED,
        "stop and tell the user that this organization's tier takes no change of network rules;"
        " a prepared --snapshot with them and without --setup may do,"
        " and only what the user trusts may run without them",
    ),
    "rate_limited": KindRow(TOOL_FAILED, "wait a minute and repeat it"),
    "invalid_request": KindRow(TOOL_FAILED, "change what the message names"),
    "image": KindRow(
        TOOL_FAILED,
        "use --snapshot daytona-small, daytona-medium or daytona-large;"
        " an image needs a tag other than latest",
    ),
    "network": KindRow(
        TOOL_FAILED,
        "check the network and DAYTONA_API_URL, then run python3 {scripts}/healthcheck.py;"
        " behind a proxy set HTTPS_PROXY",
    ),
    "server_error": KindRow(
        TOOL_FAILED,
        "repeat it in a minute;"
        " python3 {scripts}/healthcheck.py tells whether the endpoint is Daytona's",
    ),
    "create_timeout": KindRow(
        TOOL_FAILED,
        "repeat it; a new image takes minutes to build, a snapshot does not:"
        " --snapshot daytona-small",
    ),
    "create_failed": KindRow(
        TOOL_FAILED, "repeat it; when it fails again, choose another --snapshot"
    ),
    "exec_failed": KindRow(TOOL_FAILED, "repeat it; with --keep the sandbox stays for a look"),
    "local_unavailable": KindRow(TOOL_FAILED, "python3 {scripts}/local_daytona status"),
    "host_access": KindRow(TOOL_FAILED, "name a path inside the working directory"),
    "archive": KindRow(TOOL_FAILED, "look at the files in the sandbox before you fetch them"),
    "internal": KindRow(TOOL_FAILED, "run it again with --debug and report what it prints"),
}


class Failure(Exception):
    """A run that failed; `kind` is a row of KINDS, `fix` the line to type.

    Frozen: `replaced` makes another one.
    """

    kind: Kind
    message: str
    fix: str
    exit_code: int
    status: int | None  # of HTTP
    sandbox_id: str | None  # of a sandbox that exists all the same
    unsent: bool  # nothing can have been made: not sent, or refused before the server's work
    retry_after_s: int | None  # what a 429 says to wait

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        fix: str | None = None,
        exit_code: int | None = None,
        status: int | None = None,
        sandbox_id: str | None = None,
        unsent: bool = False,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        row = KINDS[kind]
        vars(self).update(
            kind=kind,
            message=one_line(message),
            fix=one_line(with_whole_paths(fix or row.fix)),
            exit_code=row.exit_code if exit_code is None else exit_code,
            status=status,
            sandbox_id=sandbox_id,
            unsent=unsent,
            retry_after_s=retry_after_s,
        )

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):  # Python itself notes where it was raised, and from what
            raise AttributeError(f"a Failure is frozen: replaced({name}=...) makes another one")
        super().__setattr__(name, value)

    def replaced(
        self, *, message: str | None = None, fix: str | None = None, sandbox_id: str | None = None
    ) -> Failure:
        """The same with other words, or with the sandbox that is left."""
        made = Failure(
            self.kind,
            message or self.message,
            fix=fix or self.fix,
            exit_code=self.exit_code,
            status=self.status,
            sandbox_id=sandbox_id or self.sandbox_id,
            unsent=self.unsent,
            retry_after_s=self.retry_after_s,
        )
        made.__cause__ = self.__cause__
        return made

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind, "message": self.message, "fix": self.fix}


class UsageFailure(Failure):
    """The command line asks for something that cannot be; nothing was created."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__("usage", message, fix=fix)


def with_whole_paths(fix: str) -> str:
    """A fix as the caller can type it, from whatever folder."""
    if "{scripts}" not in fix:
        return fix
    import skill_env

    return re.sub(SCRIPT, lambda match: skill_env.command(match[1]), fix)


def with_local_fix(failure: Failure) -> Failure:
    """With a fix that stays on local Daytona, where the command came from."""
    return failure.replaced(
        fix=failure.fix.replace('sandboxes.py" list', 'sandboxes.py" list --local')
    )


# The server's words decide between kinds that share a status, first match wins; a fix of None is
# the kind's own. Patterns of `re`, in any case; not compiled here, which would cost each --help a
# millisecond.
BY_WORDS: tuple[tuple[str, Kind, str | None], ...] = (
    (
        r"organization is suspended|depleted credits|payment (method )?(is )?required"
        r"|verify your (e-?mail|account|organization)",
        "forbidden",
        "stop and tell the user, who pays or verifies the account in the Daytona dashboard:"
        " the key is fine",
    ),
    (r"network access is restricted", "tier_network", None),
    (r"limit exceeded|exceeds maximum allowed|quota", "quota", None),
    (
        r"snapshot .{0,200}(not found|inactive|not available)|cannot pull the image"
        r"|pull access denied|manifest unknown|invalid image|image .{0,200}(not found|must|tag)",
        "image",
        None,
    ),
    (r"entered error state|failed to start", "create_failed", None),
)
PROXY_REFUSED, CAPTIVE_PORTAL = 407, 511
NOTHING_DONE = {402, PROXY_REFUSED, CAPTIVE_PORTAL}
# Errors of a request that never reached the server: no connection, or none through the proxy.
NEVER_SENT = {"ClientConnectorError", "ClientHttpProxyError", "InvalidURL"}
CERTIFICATE_FIXES = (
    (
        r"certificate has expired|certificate is not yet valid",
        "check this machine's clock, and the certificate of DAYTONA_API_URL",
    ),
    (
        r"hostname mismatch|ip address mismatch|certificate is not valid for",
        "check DAYTONA_API_URL: the certificate there is another host's",
    ),
    (
        r"certificate.?verify.?failed|self.signed certificate|unable to get (local )?issuer",
        "a company's own authority signs this connection: ask the user for its certificate,"
        " then export SSL_CERT_FILE=/path/to/authority.pem",
    ),
)
NO_TEMPORARY_FOLDER = "No usable temporary directory"
BY_STATUS: Mapping[int, Kind] = {
    400: "invalid_request",
    401: "unauthorized",
    402: "forbidden",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    410: "exec_failed",
    422: "invalid_request",
    429: "rate_limited",
    501: "invalid_request",
    504: "server_error",
}
NETWORK_CLASSES = {
    "DaytonaConnectionError",
    "ClientError",
    "HTTPError",
    "TransportError",
    "ConnectionError",
    "gaierror",
    "SSLError",
}
NETWORK_WORDS = (
    r"max retries exceeded|cannot connect|connection (refused|reset|closed|aborted)"
    r"|server disconnected|name or service not known|temporary failure in name resolution"
    r"|certificate|websocket (error|closed)|close code"
)
NOT_DAYTONA = r"unsupported content type|validation error|expecting value|'NoneType' object"
LONGEST_MESSAGE = 600


def translate_error(error: BaseException, doing: str) -> Failure:
    """A Failure for any error of the SDK, its clients or the system; `doing` was under way."""
    if isinstance(error, Failure):
        return error
    status = status_of(error)
    here = trouble_here(error)
    if here is not None:
        return here
    kind, fix = kind_and_fix(error, status)
    failure = Failure(
        kind,
        f"{doing}: {describe_proxy_refusal(error, status) or read_error_line(error)}",
        fix=fix,
        status=status,
        sandbox_id=getattr(error, "sandbox_id", None),
        unsent=bool(class_names(error) & NEVER_SENT) or status in NOTHING_DONE,
        retry_after_s=retry_after(error, status),
    )
    failure.__cause__ = error
    return failure


def as_failure(error: Exception) -> Failure:
    """What nobody expected, as a failure of our own."""
    if isinstance(error, Failure):
        return error
    return trouble_here(error) or Failure("internal", f"{type(error).__name__}: {error}")


def trouble_here(error: BaseException) -> Failure | None:
    """A full place of this machine, or no temporary folder, which is nobody's bug."""
    if not isinstance(error, OSError):
        return None
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            "host_access",
            f"{quote_path(str(error.filename or fullest_place()))}: no space is left on this"
            " machine",
            fix="free some space there; temporary files go where TMPDIR says:"
            " export TMPDIR=/a/folder/with/space",
        )
    if NO_TEMPORARY_FOLDER in str(error):
        return Failure(
            "host_access",
            "no folder for temporary files on this machine takes any",
            fix="export TMPDIR=/a/folder/that/takes/files",
        )
    return None


def output_lost(why: str | None) -> Failure:
    """Nobody got what was printed, so nothing of the run is known to whoever started it."""
    return Failure(
        "interrupted",
        f"the output cannot be written: {why}",
        fix="free the place that stdout goes to, or name another one, and run it again",
        exit_code=TOOL_FAILED,
    )


def fullest_place() -> str:
    """Of the places that we write to, the one with the least space: the error does not say."""
    import os
    import shutil
    import tempfile

    import skill_env

    free: dict[str, int] = {}
    state = str(skill_env.client_state_dir())
    # A full TMPDIR is not what gettempdir finds.
    for place in (os.environ.get("TMPDIR") or tempfile.gettempdir(), state, "."):
        try:
            free[place] = shutil.disk_usage(place).free
        except OSError:  # not made yet
            continue
    return min(free, key=lambda place: free[place], default="here")


def status_of(error: BaseException) -> int | None:
    """The HTTP status: the SDK's `status_code`, the generated clients' `status`."""
    for name in ("status_code", "status"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def kind_and_fix(error: BaseException, status: int | None) -> tuple[Kind, str | None]:
    """The kind, and what to type where that is more than the kind's own fix."""
    text = read_error_words(error)
    if is_proxys(error, status):
        return "network", proxy_fix(status)
    if status is None or status in (400, 402, 403, 422):
        for words, kind, fix in BY_WORDS:
            if re.search(words, text, re.IGNORECASE):
                return kind, fix
    if status is not None:
        kind = BY_STATUS.get(status, "server_error" if status >= 500 else "invalid_request")
        seconds = retry_after(error, status)
        return kind, None if seconds is None else f"wait {seconds} s and repeat it"
    kind = kind_without_status(error, text)
    return kind, network_fix(error, text) if kind == "network" else None


def kind_without_status(error: BaseException, text: str) -> Kind:
    names = class_names(error)
    if names & NETWORK_CLASSES or re.search(NETWORK_WORDS, text, re.IGNORECASE):
        return "network"
    if names & {"DaytonaTimeoutError", "TimeoutError"}:
        return "network"
    if re.search(NOT_DAYTONA, text, re.IGNORECASE):
        return "server_error"
    return "server_error" if names & {"DaytonaError", "OpenApiException"} else "internal"


def class_names(error: BaseException) -> set[str]:
    """By name, so that none of their modules is imported."""
    return {cls.__name__ for cls in type(error).__mro__}


def is_proxys(error: BaseException, status: int | None) -> bool:
    """Whether something between us and Daytona answered: Daytona's own refusals are JSON."""
    if "ClientHttpProxyError" in class_names(error) or status in (PROXY_REFUSED, CAPTIVE_PORTAL):
        return True
    return status in (401, 403) and is_page(getattr(error, "body", None))


def is_page(body: object) -> bool:
    return isinstance(body, str) and body.lstrip("\ufeff \t\r\n")[:1] == "<"


def describe_proxy_refusal(error: BaseException, status: int | None) -> str | None:
    """In our words: the error's own hold the proxy's address, with a password perhaps."""
    if not is_proxys(error, status):
        return None
    if status == PROXY_REFUSED:
        return f"the proxy of {proxy_variable()} wants a user and a password (407)"
    return f"a proxy answered with {status}, and not Daytona"


def proxy_fix(status: int | None) -> str:
    if status == PROXY_REFUSED:
        return f"export {proxy_variable()}=http://USER:PASSWORD@HOST:PORT"
    return (
        "the proxy on the way has to let Daytona's host through;"
        f" {proxy_variable()} names another one, NO_PROXY=HOST goes without"
    )


def network_fix(error: BaseException, text: str) -> str | None:
    """By what the connection failed at; None for what the kind's own fix fits."""
    if "ClientProxyConnectionError" in class_names(error):
        return f"check {proxy_variable()}: the proxy that it names cannot be reached"
    for words, fix in CERTIFICATE_FIXES:
        if re.search(words, text, re.IGNORECASE):
            return fix
    return None


def proxy_variable() -> str:
    """The one that is set: the lower-case spelling wins, as in Python's own urllib."""
    import os

    names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
    return next((name for name in names if os.environ.get(name)), "HTTPS_PROXY")


def read_error_line(error: BaseException) -> str:
    """One bounded line, without the terminal escapes that a hostile server may put into it."""
    text = read_error_words(error)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + CUT


def read_error_words(error: BaseException) -> str:
    """The SDK's message, the server's in the body that the generated clients keep, or its text."""
    told = (
        getattr(error, "message", None)
        or read_envelope(getattr(error, "body", None))
        or getattr(error, "reason", None)
    )
    return str(told or error) or type(error).__name__


def read_envelope(body: object) -> str:
    """The message of Daytona's envelope; of another body, all of it."""
    if not isinstance(body, str):
        return ""
    import json

    try:
        envelope = json.loads(body)
    except ValueError:
        return body
    if not isinstance(envelope, dict):
        return body
    told = envelope.get("message") or envelope.get("error") or body
    return ", ".join(map(str, told)) if isinstance(told, list) else str(told)


def retry_after(error: BaseException, status: int | None) -> int | None:
    """Seconds that a 429 says to wait; names are compared in lower case, the SDK's dict is not."""
    if status != 429:
        return None
    for name, value in dict(getattr(error, "headers", None) or {}).items():
        if str(name).lower().startswith("retry-after") and str(value).isdigit():
            return int(value)
    return None
