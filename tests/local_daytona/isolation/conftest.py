"""A sandbox that a test of the engine may ruin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_server import LocalServer, until


@pytest.fixture
def victim(server: LocalServer) -> Iterator[str]:
    """A sandbox of 1 GiB of memory and 3 GiB of disk, to be misused."""
    created = server.create()
    yield created["id"]
    until(
        lambda: server.request("DELETE", f"/api/sandbox/{created['id']}").status in (200, 404)
    )  # 409 while it still ends by itself
