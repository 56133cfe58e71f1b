"""Other people's errors as ours: the SDK's, its generated clients', the system's, each to one kind of `failures`."""

from __future__ import annotations

import contextlib
import json
import re

from .failures import Failure

# The server's words decide between kinds that share a status (facts: users-and-peers 1.7 to 1.9), first match wins.
BY_WORDS = (
    (re.compile(r"network access is restricted", re.I), "tier_network"),
    (re.compile(r"limit exceeded|exceeds maximum allowed|quota", re.I), "quota"),
    (
        re.compile(
            r"snapshot .{0,200}(not found|inactive|not available)|cannot pull the image|pull access denied|manifest unknown"
            r"|invalid image|image .{0,200}(not found|must|tag)",
            re.IGNORECASE,
        ),
        "image",
    ),
    (re.compile(r"entered error state|failed to start", re.I), "create_failed"),
)
BY_STATUS = {
    400: "invalid_request",
    401: "unauthorized",
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
NETWORK_WORDS = re.compile(
    r"max retries exceeded|cannot connect|connection (refused|reset|closed|aborted)|server disconnected|name or service not known"
    r"|temporary failure in name resolution|certificate|websocket (error|closed)|close code",
    re.IGNORECASE,
)
NOT_DAYTONA = re.compile(
    r"unsupported content type|validation error|expecting value|'NoneType' object", re.I
)
LONGEST_MESSAGE = 600


def translate(error: BaseException, doing: str) -> Failure:
    """Any error of the SDK, its generated clients or the system as a Failure; `doing` says what was under way."""
    if isinstance(error, Failure):
        return error
    status = status_of(error)
    failure = Failure(
        kind_of(error, status), f"{doing}: {text_of(error)}", fix=retry_after(error, status)
    )
    failure.status = status
    failure.unsent = "ClientConnectorError" in {cls.__name__ for cls in type(error).__mro__}
    failure.sandbox_id = getattr(error, "sandbox_id", None)
    failure.__cause__ = error
    return failure


def as_failure(error: Exception) -> Failure:
    """What nobody expected, as a failure of our own."""
    return (
        error
        if isinstance(error, Failure)
        else Failure("internal", f"{type(error).__name__}: {error}")
    )


def status_of(error: BaseException) -> int | None:
    """The HTTP status: the SDK's `status_code`, the generated clients' `status`."""
    for name in ("status_code", "status"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def kind_of(error: BaseException, status: int | None) -> str:
    text = words_of(error)
    if status is None or status in (400, 403, 422):
        for words, kind in BY_WORDS:
            if words.search(text):
                return kind
    if status is not None:
        return BY_STATUS.get(status, "server_error" if status >= 500 else "invalid_request")
    return kind_without_status(error, text)


def kind_without_status(error: BaseException, text: str) -> str:
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & NETWORK_CLASSES or NETWORK_WORDS.search(text):
        return "network"
    if names & {"DaytonaTimeoutError", "TimeoutError"}:
        return "network"
    if NOT_DAYTONA.search(text):
        return "server_error"
    return "server_error" if names & {"DaytonaError", "OpenApiException"} else "internal"


def text_of(error: BaseException) -> str:
    """One bounded line, without the terminal escapes that a hostile server may put into it."""
    text = words_of(error)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "…"


def words_of(error: BaseException) -> str:
    """All it says: the SDK's message, the server's in the body that the generated clients keep, or the error's text."""
    told = (
        getattr(error, "message", None)
        or told_in_body(getattr(error, "body", None))
        or getattr(error, "reason", None)
    )
    return str(told or error) or type(error).__name__


def told_in_body(body: object) -> str:
    """The message of Daytona's envelope; of another body, all of it."""
    if not isinstance(body, str):
        return ""
    with contextlib.suppress(ValueError):
        envelope = json.loads(body)
        told = (
            (envelope.get("message") or envelope.get("error"))
            if isinstance(envelope, dict)
            else None
        )
        return ", ".join(map(str, told)) if isinstance(told, list) else str(told or body)
    return body


def retry_after(error: BaseException, status: int | None) -> str | None:
    """A 429 says how long to wait; the SDK's headers are a case-sensitive dict, so the names are compared in lower case."""
    if status != 429:
        return None
    headers = {
        str(name).lower(): str(value)
        for name, value in dict(getattr(error, "headers", None) or {}).items()
    }
    seconds = next(
        (
            value
            for name, value in headers.items()
            if name.startswith("retry-after") and value.isdigit()
        ),
        None,
    )
    return f"wait {seconds} s and repeat it" if seconds else None
