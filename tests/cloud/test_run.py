"""run_in_sandbox.py and sandboxes.py against the real Daytona.

CI never runs it; the project has not run it so far.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
pytestmark = pytest.mark.cloud


def script(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *argv],
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def left() -> list[str]:
    return [
        found["id"]
        for found in json.loads(script("sandboxes.py", "list", "--json").stdout)["sandboxes"]
    ]


def test_the_main_job() -> None:
    """Output, exit code, and nothing left."""
    before = left()
    done = script("run_in_sandbox.py", "--code", "print(sum(range(100)))")

    assert (done.returncode, done.stdout) == (0, "4950\n"), done.stderr
    assert left() == before


def test_streams_exit_code_and_empty_stdin() -> None:
    """The same as on the local engine."""
    answer = json.loads(
        script(
            "run_in_sandbox.py", "--json", "--command", "echo out; echo err >&2; cat; exit 3"
        ).stdout
    )

    assert (answer["engine"], answer["stdout"], answer["stderr"], answer["exit_code"]) == (
        "cloud",
        "out\n",
        "err\n",
        3,
    )


def test_a_timeout_keeps_partial_output() -> None:
    """124, and the sandbox is gone."""
    done = script("run_in_sandbox.py", "--timeout", "5", "--command", "echo partial; sleep 600")

    assert (done.returncode, done.stdout) == (124, "partial\n")


def test_env_and_a_name_that_is_kept_and_deleted() -> None:
    """Two runs share files, and what was printed deletes it."""
    name = "daytona-sandbox-cloud-test"
    script(
        "run_in_sandbox.py",
        "--name",
        name,
        "--env",
        "WORD=hello there",
        "--command",
        'echo "$WORD" > file',
    )
    second = script("run_in_sandbox.py", "--name", name, "--command", "cat file")
    deleted = script("sandboxes.py", "delete", name)

    assert second.stdout == "hello there\n"
    assert deleted.returncode == 0


def test_a_repository_is_cloned() -> None:
    """With the SDK's own git."""
    done = script(
        "run_in_sandbox.py",
        "--repo",
        "https://github.com/octocat/Hello-World.git",
        "--command",
        "cat repo/README",
    )

    assert (done.returncode, "Hello World" in done.stdout) == (0, True), done.stderr
