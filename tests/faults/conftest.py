"""The scripts, pointed at a proxy that injects faults before the real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.conftest import healthcheck, ours, run, sandboxes_script, scripts_environment
from tests.local_server import LocalServer

from .proxy import Proxy, running_proxy

__all__ = ["healthcheck", "ours", "run", "sandboxes_script", "scripts_environment"]


@pytest.fixture
def proxy(
    server: LocalServer, scripts_environment: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """A fresh proxy that the environment names as endpoint; its sandboxes are swept afterwards."""
    from sandbox_kit import lease

    monkeypatch.setattr(lease, "DELETE_PAUSES_S", (0.0, 0.05, 0.05))
    monkeypatch.setattr(lease, "LOOK_PAUSES_S", (0.0, 0.05, 0.05))
    with running_proxy(server.url) as running:
        monkeypatch.setenv("DAYTONA_API_URL", running.api_url)
        monkeypatch.setenv("DAYTONA_API_KEY", server.api_key)
        yield running
    for left in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{left['id']}")
