"""Finding or starting local Daytona for --local.

It is found by its server.json, and started by its own command line as a subprocess.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import skill_env

from .errors import Failure

START_TIMEOUT_S = 60
ANSWER_TIMEOUT_S = 5
OTHER_STATE = "export DAYTONA_LOCAL_STATE=/an/absolute/folder that this user can write"


@dataclass(frozen=True)
class LocalServer:
    """What server.json says."""

    url: str
    version: str
    api_key: str = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"{self.url}/api"


def read_server_json() -> LocalServer | None:
    """The server that runs or ran; None when there is no readable server.json."""
    try:
        values = json.loads((skill_env.local_state_dir() / "server.json").read_text())
        return LocalServer(url=values["url"], version=values["version"], api_key=values["api_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_or_start() -> LocalServer:
    """A healthy server of this skill's version.

    Raises Failure local_unavailable with the server's own reason and fix.
    """
    server = read_server_json()
    is_ours = server is not None and server.version == skill_env.server_version()
    if server is not None and is_ours and is_running() and is_answering(server):
        return server
    run_local_command("start")
    server = read_server_json()
    if server is None:
        raise Failure("local_unavailable", "local Daytona started but left no server.json")
    return server


def is_running() -> bool:
    """Whether a server holds the state's lock: only this user's can.

    After a crash anybody may listen on the port that server.json names, and would be shown the key.
    """
    try:
        import fcntl

        lock = os.open(skill_env.local_state_dir() / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def is_answering(server: LocalServer) -> bool:
    request = urllib.request.Request(
        f"{server.url}/local/status", headers={"Authorization": f"Bearer {server.api_key}"}
    )
    # Loopback never goes through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_TIMEOUT_S) as response:
            return bool(response.headers.get("X-Daytona-Local"))
    except (OSError, ValueError):
        return False


def run_local_command(command: str) -> dict[str, Any]:
    """`python3 scripts/local_daytona COMMAND`; its JSON. Raises Failure local_unavailable."""
    line = [sys.executable, "-I", str(skill_env.SKILL / "scripts" / "local_daytona"), command]
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("local_unavailable", f"local Daytona did not {command}: {error}") from None
    if done.returncode:
        raise read_complaint(done.stderr)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise Failure("local_unavailable", f"local Daytona gave no answer to {command}") from None
    return answer if isinstance(answer, dict) else {}


def read_complaint(stderr: str) -> Failure:
    """Its two lines, reason and fix, as ours: its own flags are not the scripts'."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    fixes = [line.partition("fix: ")[2] for line in lines if line.startswith("fix: ")]
    reasons = [line for line in lines if not line.startswith("fix: ")]
    return Failure(
        "local_unavailable",
        reasons[-1] if reasons else "local Daytona did not start",
        fix=OTHER_STATE if fixes and "--state-dir" in fixes[-1] else fixes[-1] if fixes else None,
    )
