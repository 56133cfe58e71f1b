"""What a run says when its sandbox ends under it: the server's reason, and a next step."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox_kit.sandbox_end import SandboxEnd, is_past
from sandbox_kit.sdk import SandboxInfo
from tests.local_server import SCRIPTS, LocalServer, running_server, until

from .script_runner import Result, Script

HOG = (
    "import os, time\n"
    "for _ in range(5):\n"
    "    if os.fork() == 0: break\n"
    "x = b'x' * (400 << 20)\n"
    "time.sleep(60)"
)
INFO = SandboxInfo("i", "work", "error", None, None, cpu=1, memory=1, disk=3)
MEMORY = "the sandbox used 1200 MiB of memory, its size is 1 GiB"


@pytest.fixture
def while_it_runs(server: LocalServer) -> Callable[[str, str, Callable[[], Result]], Result]:
    """Send the server a request for the only sandbox as soon as its program is at work."""

    def act(method: str, path: str, call: Callable[[], Result]) -> Result:
        def wait_and_send() -> None:
            (found,) = until(server.sandboxes)
            look, body = f"/toolbox/{found['id']}/process/execute", {"command": "pgrep -x sleep"}
            until(lambda: b'"exitCode": 0' in server.request("POST", look, body=body).body)
            server.request(method, f"/api/sandbox/{found['id']}{path}")

        thread = threading.Thread(target=wait_and_send)
        thread.start()
        result = call()
        thread.join()
        return result

    return act


def test_too_much_memory_is_the_servers_reason_and_a_larger_snapshot(
    run: Script, server: LocalServer
) -> None:
    """Processes together: none is killed alone, so no exit code 137 tells it."""
    plain = run("--local", "--json", "--code", HOG)
    left = server.sandboxes()
    setup = f"python3 -c {shlex.quote(HOG)}"
    in_setup = run("--local", "--json", "--setup", setup, "--command", "true")

    for result in (plain, in_setup):
        assert (result.code, result.json()["error"]["kind"]) == (125, "exec_failed")
        assert "of memory, its size is 1 GiB" in result.json()["error"]["message"]
        assert result.fix == "--snapshot daytona-medium or daytona-large"
    assert left == server.sandboxes() == []


def test_a_named_one_that_broke_shows_its_reason_and_has_a_way_out(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """`info` has the reason, the next run says so and starts it again with its files."""
    run("--local", "--name", "hog", "--command", "echo kept > file")
    broken = run("--local", "--name", "hog", "--code", HOG)
    info = sandboxes_script("info", "hog", "--local")
    as_json = sandboxes_script("info", "hog", "--local", "--json").json()
    again = run("--local", "--name", "hog", "--command", "cat file")
    server.request("DELETE", "/api/sandbox/hog")

    assert broken.code == 125
    assert "kept: hog" in broken.stderr
    assert ", which is error; " in broken.stderr
    assert 'sandboxes.py" delete' in broken.fix
    assert "--snapshot daytona-medium" in broken.fix
    assert "of memory, its size is 1 GiB" in info.stdout
    assert "of memory, its size is 1 GiB" in as_json["error_reason"]
    assert (again.code, again.stdout) == (0, "kept\n")
    assert "hog ended in error (the sandbox used" in again.stderr


@pytest.mark.parametrize(
    ("flags", "method", "path", "words", "last"),
    [
        (["--name", "mine"], "POST", "/stop", "it is stopped", "kept: mine"),
        (["--keep"], "DELETE", "", "it is gone", "deleted: run-"),
        ([], "POST", "/stop", "it is gone", "deleted: run-"),
    ],
    ids=["stopped", "deleted though kept", "ephemeral and stopped"],
)
def test_who_ends_a_sandbox_from_outside_is_told(
    run: Script,
    server: LocalServer,
    while_it_runs: Callable[..., Result],
    flags: list[str],
    method: str,
    path: str,
    words: str,
    last: str,
) -> None:
    """Not "Is the Sandbox started?", and nothing is called kept that is not there."""
    result = while_it_runs(
        method, path, lambda: run("--local", "--json", *flags, "--command", "sleep 61")
    )
    kept = server.get("mine")
    server.request("DELETE", "/api/sandbox/mine")

    assert (result.code, result.json()["error"]["kind"]) == (125, "exec_failed")
    assert words in result.json()["error"]["message"]
    assert result.json()["sandbox"]["kept"] == (kept is not None)
    assert result.stderr.splitlines()[-3].startswith(f"[sandbox] {last}")
    assert "--auto-stop" in result.fix
    assert server.sandboxes() == []


def test_waiting_for_a_program_whose_sandbox_ends_says_why(
    run: Script, sandboxes_script: Script, server: LocalServer, while_it_runs: Callable[..., Result]
) -> None:
    """The detached program has no run of its own any more that could tell."""
    run("--local", "--name", "job", "--detach", "--command", "sleep 61")
    waited = while_it_runs("POST", "/stop", lambda: sandboxes_script("wait", "job", "--local"))
    logs = sandboxes_script("logs", "job", "--local")
    server.request("DELETE", "/api/sandbox/job")

    for result in (waited, logs):
        assert result.code == 125
        assert "job does not run: it is stopped" in result.stderr
        assert 'run_in_sandbox.py" --sandbox' in result.fix


@pytest.mark.thorough
def test_a_ttl_that_ends_under_a_run_is_named(
    scripts_environment: Path, state_dir: Path, tmp_path: Path
) -> None:
    """A program that is longer than its sandbox's life: the fix is a longer one."""
    line = [sys.executable, str(SCRIPTS / "run_in_sandbox.py"), "--local", "--ttl", "15"]
    with running_server(state_dir, minute=0.8):
        done = subprocess.run(
            [*line, "--timeout", "60", "--command", "sleep 30"],
            env={**os.environ, "DAYTONA_LOCAL_STATE": str(state_dir)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert done.returncode == 125
    assert "its ttl ended" in done.stderr
    assert done.stderr.endswith("fix: --ttl 30\n")


@pytest.mark.parametrize(
    ("changes", "delete", "fix"),
    [
        ({"error_reason": MEMORY}, None, "--snapshot daytona-medium or daytona-large"),
        ({"error_reason": MEMORY, "memory": 4}, None, "--snapshot daytona-large"),
        ({"error_reason": MEMORY, "memory": 8}, None, "use less of it"),
        ({"error_reason": "container OOMKilled: out of memory"}, "D", "D; then --snapshot"),
        ({"error_reason": "no space left on device"}, None, "--snapshot daytona-medium"),
        ({"error_reason": "this machine ran out of memory"}, None, "free memory and disk"),
        ({"error_reason": "runner lost"}, "D", "D; then repeat it"),
        ({"state": "stopped"}, "D", "repeat it"),
    ],
)
def test_what_ran_out_decides_what_to_type(
    changes: dict[str, Any], delete: str | None, fix: str
) -> None:
    """A snapshot that has more of it; never one of the same size."""
    end = SandboxEnd(dataclasses.replace(INFO, **changes))

    assert end.suggest(ttl_min=60, delete=delete).startswith(fix)


@pytest.mark.parametrize(
    ("moment", "past"),
    [("2020-01-01T00:00:00Z", True), ("2099-01-01T00:00:00Z", False), (None, False), ("x", False)],
)
def test_a_moment_that_cannot_be_read_has_not_come(moment: str | None, past: bool) -> None:
    """A server that names no end has not ended anything by its ttl."""
    assert is_past(moment) is past
