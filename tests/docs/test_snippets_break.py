"""Each Python block of the pages, broken at a request: no sandbox is left that has no end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Fault, Proxy, running_proxy
from tests.local_server import LocalServer

from .pages import Block, blocks
from .waiting import ANOTHER_MACHINE

MAKES = [
    block
    for block in blocks()
    if block.tag == "python" and ".create(" in block.text and block.name not in ANOTHER_MACHINE
]
REQUESTS = (2, 4)  # the first is the create itself


@pytest.fixture
def proxy(server: LocalServer) -> Iterator[Proxy]:
    with running_proxy(server.url) as running:
        yield running
    for found in server.sandboxes():
        server.request("DELETE", f"/api/sandbox/{found['id']}")


def test_there_are_blocks_that_make_sandboxes() -> None:
    """An empty list would pass everything below."""
    assert len(MAKES) >= 8


@pytest.mark.thorough
@pytest.mark.parametrize("block", MAKES, ids=lambda block: block.name)
@pytest.mark.parametrize("at", REQUESTS)
def test_a_block_that_fails_half_way_leaves_nothing_without_an_end(
    block: Block, at: int, proxy: Proxy, server: LocalServer, tmp_path: Path
) -> None:
    """It is deleted, or the server deletes it by its ttl."""
    proxy.faults.append(Fault(".*", ".*", 500, at=at))
    subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DAYTONA_API_URL": proxy.api_url,
            "DAYTONA_API_KEY": server.api_key,
        },
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    left = [found for found in server.sandboxes() if not found.get("autoDestroyAt")]

    assert proxy.number >= min(at, 2)
    assert left == []
