"""The three scripts, called in this process against the test's server, without a user's key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.local_server import LocalServer

from .script_runner import Script, called


@pytest.fixture
def scripts_environment(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The scripts find the test's server by --local and keep their state in `tmp_path`.

    They have no key of the user's.
    """
    for name in [name for name in os.environ if name.startswith("DAYTONA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(server.state_dir))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def ours(scripts_environment: Path) -> dict[str, str]:
    """The labels of a sandbox that this skill made for this test's user."""
    from sandbox_kit.ownership import this_user

    return {**this_user().labels, "run-id": "r1"}


@pytest.fixture
def run(scripts_environment: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    """run_in_sandbox.py's main, in this process."""
    from sandbox_kit.entry import run_in_sandbox

    return called(run_in_sandbox, capsys)


@pytest.fixture
def sandboxes_script(scripts_environment: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    """sandboxes.py's main, in this process."""
    from sandbox_kit.entry import sandboxes

    return called(sandboxes, capsys)


@pytest.fixture
def healthcheck(scripts_environment: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    """healthcheck.py's main, in this process."""
    from sandbox_kit.entry import healthcheck

    return called(healthcheck, capsys)
