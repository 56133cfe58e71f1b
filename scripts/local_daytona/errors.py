"""Every error class of this package, and the JSON of an error answer.

The agent has its own, because it runs by itself inside. Standard library only: programs that have
nothing else import it too.
"""

from __future__ import annotations

import datetime
import errno
import os
from typing import Any, Protocol

API = "DAYTONA_API"


class ApiError(Exception):
    """An answer that is an error; `code` as Daytona names it, where it does.

    `source` is who answers so in Daytona: the API, or the daemon in a sandbox.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, source: str = API
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.source = source


class BadHead(Exception):
    """What came is not HTTP, or too much of it."""


class BuildProblem(Exception):
    """A line of a Dockerfile that cannot be carried out, by its number and its text."""

    def __init__(self, line: int, text: str, reason: str) -> None:
        super().__init__(f"line {line}: {text}: {reason}")


class BadPayload(Exception):
    """A first message to an interpreter that is no request; the text says why."""


class EngineUnavailable(Exception):
    """This machine cannot isolate a sandbox; `fix` says what would change that."""

    def __init__(self, reason: str, *, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


class SandboxGone(Exception):
    """The sandbox's agent no longer answers: it was stopped, or something in it broke the agent."""


class FileProblem(OSError):
    """A file operation failed inside the sandbox; carries the errno from there."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code or errno.EIO, message or os.strerror(code or errno.EIO))


class CopyStopped(Exception):
    """The server ends, or nobody wants a copy of these files any more."""


class Unmeasurable(Exception):
    """More than can be looked through; the message goes on after "the sandbox"."""


class Unreadable(Unmeasurable):
    """A folder that this user closed to itself; whoever has the right to look may."""


class Refused(Exception):
    """The proxy's answer when it does not do what was asked: an HTTP status and one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class LifecycleError(Exception):
    """A server could not be started, found or stopped; `fix` says what to type."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class StateTaken(LifecycleError):
    """Another server holds the state folder."""


REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Payload Too Large",
    416: "Range Not Satisfiable",
    422: "Unprocessable Entity",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class Asked(Protocol):
    """What an error's envelope says of the request."""

    @property
    def path(self) -> str: ...

    @property
    def method(self) -> str: ...


def envelope(error: ApiError, request: Asked) -> dict[str, Any]:
    """Daytona's error body (PROTOCOL.md, "Errors")."""
    reason = REASONS.get(error.status, "Error")
    return {
        "statusCode": error.status,
        "error": reason,
        "message": error.message,
        "code": error.code or reason.upper().replace(" ", "_"),
        "source": error.source,
        "path": request.path,
        "method": request.method,
        "timestamp": iso(now()),
    }


def now() -> float:
    return datetime.datetime.now(datetime.timezone.utc).timestamp()


def iso(timestamp: float) -> str:
    """2026-01-02T03:04:05.678Z of seconds since the epoch."""
    moment = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
