"""The translation of other people's errors, with the real classes of the installed SDK."""

from __future__ import annotations

from typing import Any

import daytona
import pytest

import skill_env
from sandbox_kit.errors import KINDS, Failure, translate_error

EXPECTED_KINDS = [
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


def test_the_kinds_are_these_and_each_has_a_fix() -> None:
    """error.kind is an interface: agents branch on it."""
    assert list(KINDS) == EXPECTED_KINDS
    assert all(row.fix for row in KINDS.values())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            daytona.DaytonaAuthenticationError("Invalid credentials", status_code=401),
            "unauthorized",
        ),
        (daytona.DaytonaForbiddenError("Forbidden", status_code=403), "forbidden"),
        (
            daytona.DaytonaForbiddenError(
                "Total CPU limit exceeded. Maximum allowed: 10", status_code=403
            ),
            "quota",
        ),
        (
            daytona.DaytonaBadRequestError(
                "Memory request 16 exceeds maximum allowed per sandbox (8)", status_code=400
            ),
            "quota",
        ),
        (
            daytona.DaytonaBadRequestError(
                "Network access is restricted and cannot be overridden at the sandbox level.",
                status_code=400,
            ),
            "tier_network",
        ),
        (daytona.DaytonaBadRequestError("Snapshot foo not found", status_code=400), "image"),
        (
            daytona.DaytonaBadRequestError("Sandbox failed to start: boom", status_code=400),
            "create_failed",
        ),
        (daytona.DaytonaBadRequestError("name is wrong", status_code=400), "invalid_request"),
        (daytona.DaytonaNotFoundError("no", status_code=404), "not_found"),
        (
            daytona.DaytonaConflictError("Sandbox state change in progress", status_code=409),
            "conflict",
        ),
        (daytona.DaytonaRateLimitError("slow down", status_code=429), "rate_limited"),
        (daytona.DaytonaInternalServerError("oops", status_code=500), "server_error"),
        (daytona.DaytonaBadGatewayError("bad gateway", status_code=502), "server_error"),
        (daytona.DaytonaServiceUnavailableError("later", status_code=503), "server_error"),
        (daytona.DaytonaConnectionError("Server disconnected"), "network"),
        (daytona.DaytonaError("Failed: Max retries exceeded with url"), "network"),
        (
            daytona.DaytonaError(
                "Sandbox x entered error state: error, error reason: pull access denied for foo"
            ),
            "image",
        ),
        (
            daytona.DaytonaError("Sandbox x entered error state: error, error reason: no runner"),
            "create_failed",
        ),
        (daytona.DaytonaError("Unsupported content type: 'text/html'"), "server_error"),
        (daytona.DaytonaGoneError("ended", status_code=410), "exec_failed"),
        (ConnectionResetError("reset"), "network"),
        (ValueError("a bug"), "internal"),
    ],
    ids=lambda value: (
        f"{type(value).__name__}: {value}"[:60] if isinstance(value, BaseException) else None
    ),
)
def test_errors_become_the_kind_that_says_what_to_do(error: Exception, kind: str) -> None:
    """By status, then by the server's own words."""
    failure = translate_error(error, "creating the sandbox")

    assert (failure.kind, failure.fix != "") == (kind, True)
    assert failure.message.startswith("creating the sandbox: ")


def test_raw_errors_of_the_generated_clients_are_translated_by_their_status() -> None:
    """code_run and others let them through, and they are no DaytonaError."""
    from daytona_toolbox_api_client_async.exceptions import NotFoundException

    kind = translate_error(NotFoundException(status=404, reason="Not Found"), "running").kind
    assert kind == "not_found"


@pytest.mark.parametrize("header", ["Retry-After", "Retry-After-sandbox-create", "retry-after"])
def test_a_rate_limit_says_how_long_to_wait(header: str) -> None:
    """The SDK's headers are a case-sensitive dict."""
    error = daytona.DaytonaRateLimitError("slow", status_code=429, headers={header: "17"})

    assert translate_error(error, "creating").fix == "wait 17 s and repeat it"


def test_a_message_is_one_bounded_line_without_escapes() -> None:
    """A hostile server writes error texts too."""
    failure = translate_error(daytona.DaytonaError("\x1b[2Jline\none" + "x" * 5000), "creating")

    assert "\n" not in failure.message
    assert "\x1b" not in failure.message
    assert len(failure.message) < 700


def test_the_id_of_a_sandbox_that_was_left_survives() -> None:
    """A create that timed out carries it."""
    error: Any = daytona.DaytonaTimeoutError("too slow")
    error.sandbox_id = "abc"

    assert translate_error(error, "creating").sandbox_id == "abc"


def test_fixes_name_the_scripts_by_their_whole_path() -> None:
    """The caller stands in another folder."""
    fix = Failure("not_found", "x").fix
    assert f'python3 -I "{skill_env.SKILL}/scripts/sandboxes.py" list' in fix
    assert "{scripts}" not in "".join(Failure(kind, "x").fix for kind in KINDS)
