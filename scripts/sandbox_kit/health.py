"""healthcheck.py: can Daytona be used here, by which path, and what to fix.

Each check is one row; the verdict is the first that holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import skill_env

from .errors import Failure
from .local import run_local_command
from .plain_text import strip_controls
from .settings import (
    CREDENTIALS,
    DEFAULT_ENDPOINT,
    Settings,
    endpoint_from,
    settings_from_environment,
)
from .status_log import StatusLog

READY, LOCAL_ONLY, CLI_ONLY, NOT_READY = "READY", "LOCAL ONLY", "CLI ONLY", "NOT READY"
EXIT = {READY: 0, LOCAL_ONLY: 3, CLI_ONLY: 4, NOT_READY: 5}
CLI_TIMEOUT_S = 15
PING_TIMEOUT_S = 20
PROXY_STATUSES = (403, 407, 502, 503)


@dataclass(frozen=True)
class HealthCheck:
    """One row: what was looked at, whether it is fine, what was found, what to type."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None
    absent: bool = False  # nothing of it is there, so nothing of it is wrong

    def as_json(self) -> dict[str, object]:
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}


def install_environment(*, as_json: bool) -> int:
    """Make the environment, then report in it.

    The exit code is 0 whenever the environment can be used, whatever the verdict.
    """
    import skill_install

    try:
        folder = skill_install.install()
    except skill_install.InstallFailed as failure:
        raise Failure("internal", str(failure), fix=failure.fix) from None
    StatusLog().say(f"the skill's environment is ready: {folder}")
    line = [
        str(skill_env.python_of(folder)),
        "-I",
        str(skill_env.SKILL / "scripts" / "healthcheck.py"),
        *(["--json"] if as_json else []),
    ]
    subprocess.run(line, stdin=subprocess.DEVNULL, check=False)
    return 0


def report_health(*, as_json: bool) -> int:
    """All checks, the verdict, and what to do first."""
    checks = run_checks()
    verdict = verdict_of(checks)
    engine = "local" if verdict == LOCAL_ONLY else None
    if verdict == READY:
        engine = settings_from_environment().engine
    if as_json:
        print(
            json.dumps(
                {
                    "verdict": verdict,
                    "engine": engine,
                    "checks": [check.as_json() for check in checks],
                }
            ),
            flush=True,
        )
    else:
        print_checks(verdict, checks)
    return EXIT[verdict]


def print_checks(verdict: str, checks: Sequence[HealthCheck]) -> None:
    for check in checks:
        print(strip_controls(f"{'ok ' if check.ok else '-- '} {check.name}: {check.detail}"))
        if not check.ok and check.fix:
            print(strip_controls(f"    fix: {check.fix}"))
    print(f"{verdict}: {ADVICE[verdict]}", flush=True)


ADVICE = {
    READY: "run run_in_sandbox.py as it is",
    LOCAL_ONLY: (
        "add --local (weaker than the cloud: it shares this machine's kernel);"
        " for untrusted code only after the user's yes"
    ),
    CLI_ONLY: (
        "the daytona CLI is logged in, the SDK has no key: export DAYTONA_API_KEY, or use the CLI"
    ),
    NOT_READY: "follow the fix lines above; do not run untrusted code on this machine instead",
}


def verdict_of(checks: Sequence[HealthCheck]) -> str:
    """What the user would say; a key that does not work is to be mended, not gone around."""
    found = {check.name: check for check in checks}
    usable = found["interpreter"].ok and found["sdk"].ok
    if usable and found["key"].ok and found["request"].ok:
        return READY
    if not found["key"].absent:
        return NOT_READY
    if found["cli"].ok:
        return CLI_ONLY
    return LOCAL_ONLY if usable and found["local engine"].ok else NOT_READY


def run_checks() -> list[HealthCheck]:
    sdk = check_sdk()
    settings, key = check_key()
    request = (
        check_request(settings)
        if settings and sdk.ok
        else HealthCheck("request", ok=False, detail="not tried: it needs the SDK and a key")
    )
    return [
        check_interpreter(),
        sdk,
        key,
        check_endpoint(),
        request,
        check_cli(),
        check_local(sdk.ok),
    ]


def check_interpreter() -> HealthCheck:
    found = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= skill_env.OLDEST_PYTHON:
        return HealthCheck("interpreter", ok=True, detail=found)
    return HealthCheck(
        "interpreter", ok=False, detail=f"{found} is too old", fix="use Python 3.10 or newer"
    )


def check_sdk() -> HealthCheck:
    problem = skill_env.problem(sys.path)
    if problem is not None:
        return HealthCheck("sdk", ok=False, detail=str(problem), fix=problem.fix)
    version = skill_env.distributions(sys.path)["daytona"]
    return HealthCheck("sdk", ok=True, detail="daytona " + ".".join(str(part) for part in version))


def check_key() -> tuple[Settings | None, HealthCheck]:
    """Whether there is a key and where it comes from, never what it is."""
    try:
        settings = settings_from_environment()
    except Failure as failure:
        if failure.kind == "no_credentials" and os.environ.get("DAYTONA_JWT_TOKEN"):
            return None, HealthCheck(
                "key",
                ok=False,
                detail="DAYTONA_JWT_TOKEN stands alone",
                fix="export DAYTONA_ORGANIZATION_ID beside it, or DAYTONA_API_KEY instead",
            )
        absent = failure.kind == "no_credentials"
        return None, HealthCheck(
            "key", ok=False, detail=failure.message, fix=failure.fix, absent=absent
        )
    except ImportError:
        return None, HealthCheck(
            "key",
            ok=False,
            detail="not read: python-dotenv is missing",
            fix=skill_env.install_command(),
            absent=not any(os.environ.get(name) for name in CREDENTIALS),
        )
    kind = "API key" if settings.api_key else "JWT"
    return settings, HealthCheck("key", ok=True, detail=f"{kind} from {settings.key_source}")


def check_endpoint() -> HealthCheck:
    try:
        endpoint = endpoint_from(os.environ)
    except Failure as failure:
        return HealthCheck("endpoint", ok=False, detail=failure.message, fix=failure.fix)
    source = "the default" if endpoint == DEFAULT_ENDPOINT else "DAYTONA_API_URL"
    return HealthCheck("endpoint", ok=True, detail=f"{endpoint} ({source})")


def check_request(settings: Settings) -> HealthCheck:
    """One cheap authenticated request, and what its failure means."""
    try:
        asyncio.run(ping_server(settings))
    except Failure as failure:
        return diagnose_request(failure, settings)
    return HealthCheck(
        "request", ok=True, detail=f"{settings.engine} Daytona answers and knows the key"
    )


async def ping_server(settings: Settings) -> None:
    from .sdk import Client

    async with Client.open(settings) as client:
        try:
            await asyncio.wait_for(client.ping(), PING_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise Failure("network", f"no answer within {PING_TIMEOUT_S} s") from None


def diagnose_request(failure: Failure, settings: Settings) -> HealthCheck:
    """The failed request as a check with its own fix.

    A wrong key, no network, a wrong path and a server that is not Daytona's look alike at first.
    """
    message, endpoint = failure.message, settings.endpoint
    for secret in settings.secrets:
        message = message.replace(secret, "[redacted]")
    mend_address = f"export DAYTONA_API_URL={DEFAULT_ENDPOINT}"
    detail, fix = message, failure.fix
    if failure.kind == "unauthorized":
        detail = f"the key from {settings.key_source} is refused"
        fix = "make a new key in the Daytona dashboard and export DAYTONA_API_KEY"
    elif failure.status in PROXY_STATUSES and not is_daytonas(failure.__cause__):
        detail = f"something before {endpoint} answered {failure.status}: {message}"
        fix = "let the proxy allow that host and take its login: HTTPS_PROXY, NO_PROXY"
    elif failure.kind == "not_found":
        detail, fix = f"{endpoint} is not the API's address (404)", mend_address
    elif failure.kind == "network":
        detail = f"{endpoint} cannot be reached: {message}"
    elif failure.status is None and failure.kind in ("server_error", "internal"):
        detail, fix = f"{endpoint} answers, but not as Daytona does", mend_address
    return HealthCheck("request", ok=False, detail=detail, fix=fix)


def is_daytonas(error: BaseException | None) -> bool:
    """Whether an error's body is Daytona's: a proxy's is a page, or there is none."""
    try:
        said = json.loads(getattr(error, "body", None) or "")
    except (TypeError, ValueError):
        return False
    return isinstance(said, dict) and bool({"statusCode", "message", "error"} & set(said))


def check_cli() -> HealthCheck:
    """Whether the daytona CLI is logged in; its `list` never opens a browser.

    Before 0.205 it reads the `.env` of its folder, which may send a key to a stranger; with a SHELL
    it adds completion to that shell's files.
    """
    program = skill_env.find_program("daytona")
    if program is None:
        return HealthCheck(
            "cli", ok=False, detail="the daytona CLI is not on PATH (it is not needed)"
        )
    line = [program, "list", "-f", "json", "-l", "1"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                line,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CLI_TIMEOUT_S,
                check=False,
                cwd=folder,
                env=environment_of_cli(os.environ, folder),
            )
    except (OSError, subprocess.TimeoutExpired):
        return HealthCheck(
            "cli", ok=False, detail=f"`daytona list` did not answer within {CLI_TIMEOUT_S} s"
        )
    if done.returncode == 0:
        return HealthCheck("cli", ok=True, detail="the daytona CLI is logged in")
    return HealthCheck(
        "cli",
        ok=False,
        detail="the daytona CLI is not logged in",
        fix="the user runs: daytona login",
    )


def environment_of_cli(variables: Mapping[str, str], folder: str) -> dict[str, str]:
    """What it needs to find its own login: no key, no endpoint, no shell to set up."""
    kept = {
        name: value
        for name, value in variables.items()
        if not name.upper().startswith("DAYTONA_") and name != "OLDPWD"
    }
    return {**kept, "PWD": folder, "SHELL": ""}


def check_local(sdk_ok: bool) -> HealthCheck:
    if not sdk_ok:
        return HealthCheck(
            "local engine",
            ok=False,
            detail="not tried: it needs the skill's environment",
            fix=skill_env.install_command(),
        )
    try:
        answer = run_local_command("status")
    except Failure as failure:
        return HealthCheck("local engine", ok=False, detail=failure.message, fix=failure.fix)
    return describe_local(answer.get("engine") or {})


def describe_local(engine: dict[str, Any]) -> HealthCheck:
    if "error" in engine:
        return HealthCheck(
            "local engine", ok=False, detail=str(engine["error"]), fix=str(engine.get("fix"))
        )
    facts = ", ".join(
        f"{name} {engine[name]}" for name in ("bwrap", "limits", "egress") if name in engine
    )
    return HealthCheck("local engine", ok=True, detail=f"works here ({facts})")
