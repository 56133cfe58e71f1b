"""A real local Daytona for tests: start one, speak raw HTTP to it, see its processes, wait."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Reply:
    """A raw HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class LocalServer:
    """A running server and what its server.json says."""

    url: str
    api_key: str
    pid: int
    version: str
    state_dir: Path

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Reply:
        """One raw request with the server's key (or `key`); `body` is JSON unless it is bytes."""
        sent = {
            "Authorization": f"Bearer {self.api_key if key is None else key}",
            **(headers or {}),
        }
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())

    def create(self, **fields: Any) -> dict[str, Any]:
        """A sandbox by raw HTTP, as JSON."""
        reply = self.request("POST", "/api/sandbox", body=fields)
        assert reply.status == 200, reply.body
        created: dict[str, Any] = reply.json()
        return created

    def exec(self, sandbox_id: str, command: str, **fields: Any) -> dict[str, Any]:
        """Run a command by raw HTTP; {"exitCode", "result"}."""
        reply = self.request(
            "POST", f"/toolbox/{sandbox_id}/process/execute", body={"command": command, **fields}
        )
        assert reply.status == 200, reply.body
        answer: dict[str, Any] = reply.json()
        return answer

    def status(self) -> dict[str, Any]:
        """What `status` shows: engine, sandboxes."""
        answer: dict[str, Any] = self.request("GET", "/local/status").json()
        return answer

    def sandboxes(self) -> list[dict[str, Any]]:
        """All sandboxes there are, as the status shows them."""
        found: list[dict[str, Any]] = self.status()["sandboxes"]
        return found

    def get(self, id_or_name: str) -> dict[str, Any] | None:
        """A sandbox as JSON, None when it does not exist."""
        reply = self.request("GET", f"/api/sandbox/{id_or_name}")
        return reply.json() if reply.status == 200 else None


def new_state_dir() -> Path:
    """A folder that a root server's spare uid can pass through; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="local-daytona-test-"))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "state"


def spawn(state: Path, *, minute: float = 60.0) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        str(SCRIPTS / "local_daytona"),
        "serve",
        "--state-dir",
        str(state),
        "--minute",
        str(minute),
    ]
    state.mkdir(exist_ok=True)
    with open(state / "server.log", "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=measured()
        )


def measured() -> dict[str, str]:
    """The environment of a server whose lines count where coverage is measured.

    The scripts' own processes are thousands and short: measured too, they took four times as long.
    """
    coverage = sys.modules.get("coverage")
    if coverage is None or coverage.Coverage.current() is None:
        return dict(os.environ)
    return {**os.environ, "COVERAGE_PROCESS_START": str(SCRIPTS.parent / "pyproject.toml")}


def wait_for_server(state: Path, process: subprocess.Popen[bytes]) -> LocalServer:
    """Until server.json names this process; fails with the server's own words."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((state / "server.json").read_text())
            if found["pid"] == process.pid:
                return LocalServer(state_dir=state, **found)
        time.sleep(0.02)
    process.kill()
    process.wait()
    pytest.fail((state / "server.log").read_text())


@functools.cache
def why_no_engine() -> str | None:
    """What `status` says where no sandbox can be isolated; None where one can."""
    command = [sys.executable, str(SCRIPTS / "local_daytona"), "status", "--state-dir"]
    done = subprocess.run(
        [*command, str(new_state_dir())],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    with contextlib.suppress(ValueError, KeyError):
        reason: str | None = json.loads(done.stdout)["engine"].get("error")
        return reason
    return None


@contextlib.contextmanager
def running_server(state: Path, *, minute: float = 60.0) -> Iterator[LocalServer]:
    """A server of its own for one test; ended by SIGTERM, unless the test killed it."""
    process = spawn(state, minute=minute)
    try:
        yield wait_for_server(state, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


ORDINARY_UID = 61234  # nobody's; sandboxes of a server that it runs are its own
AS_ORDINARY = """
import sys
sys.path[:0] = sys.argv[1:3]
from local_daytona.commands import main
raise SystemExit(main(["serve", "--state-dir", sys.argv[3]]))
"""


@contextlib.contextmanager
def server_of(user: str) -> Iterator[LocalServer]:
    """A new server of "this user" or, where this one is root, of an "ordinary user"; else skips."""
    from local_daytona.isolation.host import is_mapped

    if user == "ordinary user":
        if os.geteuid() != 0 or not is_mapped(ORDINARY_UID):
            pytest.skip("this user is an ordinary one")
        with ordinary_server() as running:
            yield running
        return
    with running_server(new_state_dir()) as running:
        yield running


@contextlib.contextmanager
def ordinary_server() -> Iterator[LocalServer]:
    """An ordinary user's server with the system's interpreter; root's may be out of its reach."""
    state = new_state_dir()
    state.mkdir(mode=0o700)
    os.chown(state, ORDINARY_UID, ORDINARY_UID)
    packages = Path(pytest.__file__).parents[1]
    command = ["/usr/bin/python3", "-c", AS_ORDINARY, str(SCRIPTS), str(packages), str(state)]
    with open(state / "server.log", "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"HOME": str(state)},
            user=ORDINARY_UID,
            group=ORDINARY_UID,
            extra_groups=[],
        )
    try:
        yield wait_for_server(state, process)
    finally:
        process.terminate()
        process.wait(timeout=60)


def until(condition: Any, *, seconds: float = 20.0) -> Any:
    """Poll until `condition()` is true and return its value; fails after `seconds`.

    The default is generous, for a loaded machine.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail("the condition did not come true")


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def host_processes_of(state: Path) -> list[int]:
    """Pids of bubblewrap processes that were started on this state folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                if b"bwrap" in words.split(b"\0")[0] and str(state).encode() in words:
                    found.append(int(entry))
    return found
