"""--git-token: the token of a private repository shows nowhere and reaches one host only."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import github
from tests.local_server import LocalServer

from .script_runner import Script

TOKEN = "ghp-s3cret-of-this-test"
WANTED = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
URL = "https://github.com/pypa/sampleproject.git"
LOOK = "grep -rsl s3cret-of-thi[s] /home /tmp /etc /var /run /root; env | grep -c s3cre[t]; true"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """With a github.com that wants the token."""
    with github.running_server(tmp_path_factory.mktemp("private"), WANTED) as running:
        yield running


def test_a_private_repository_is_cloned_and_the_token_stays_nowhere(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the sandbox's files or variables, nor in what we print, nor in the server's log."""
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    monkeypatch.setenv("DAYTONA_SANDBOX_PASS_ENV", "GH_TOKEN@github.com")
    result = run(
        "--local",
        "--json",
        "--repo",
        URL,
        "--git-token",
        "GH_TOKEN",
        "--command",
        f"ls repo; cat repo/.git/config; {LOOK}",
    )

    assert result.code == 0, result.stderr
    assert "pyproject.toml" in result.json()["stdout"]
    assert result.json()["stdout"].endswith("\n0\n")
    told = result.stdout + result.stderr + (server.state_dir / "server.log").read_text()
    assert TOKEN not in told


def test_without_a_token_the_fix_is_the_token(run: Script, server: LocalServer) -> None:
    """Not the account's key, which is fine."""
    result = run("--local", "--json", "--repo", URL, "--command", "true")

    assert result.code == 125
    assert "--git-token NAME" in result.fix
    assert server.sandboxes() == []


def test_a_token_that_is_not_bound_to_the_host_is_not_sent(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is created."""
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    monkeypatch.setenv("DAYTONA_SANDBOX_PASS_ENV", "GH_TOKEN@gitlab.com,GH_TOKEN")
    result = run("--local", "--json", "--repo", URL, "--git-token", "GH_TOKEN", "--command", "true")

    assert (result.code, result.json()["error"]["kind"], result.json()["sandbox"]) == (
        125,
        "host_access",
        None,
    )
    assert TOKEN not in result.stdout + result.stderr
