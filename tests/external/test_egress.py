"""The real outside from a sandbox, through this machine's network.

The loopback tests of tests/local_daytona cannot show it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_server import LocalServer, new_state_dir, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server as users start it."""
    with running_server(new_state_dir()) as running:
        yield running


@pytest.mark.network
def test_pip_installs_a_package_inside(server: LocalServer) -> None:
    """No configuration: the index is found, its certificate trusted, the package imported."""
    box = server.create()["id"]
    done = server.exec(
        box,
        "python3 -m pip install -q --target /tmp/site --no-deps iniconfig 2>&1 && ls /tmp/site",
        timeout=300,
    )

    assert done["exitCode"] == 0, done["result"]
    assert "iniconfig" in done["result"]


@pytest.mark.network
def test_npm_installs_a_package_inside(server: LocalServer) -> None:
    """As pip does."""
    box = server.create()["id"]
    if server.exec(box, "command -v npm")["exitCode"] != 0:
        pytest.skip("this machine has no npm")
    done = server.exec(
        box,
        "mkdir p && cd p && npm install --no-audit --no-fund left-pad 2>&1 && ls node_modules",
        timeout=300,
    )

    assert done["exitCode"] == 0, done["result"]
    assert done["result"].endswith("left-pad\n")


@pytest.mark.network
def test_block_all_stops_pip(server: LocalServer) -> None:
    """The same command with the network cut fails, and pip shows why."""
    box = server.create(networkBlockAll=True)["id"]
    done = server.exec(
        box,
        "python3 -m pip install --retries 1 --target /tmp/site --no-deps iniconfig 2>&1",
        timeout=300,
    )

    assert done["exitCode"] != 0
    assert "networkBlockAll is on" in done["result"]
