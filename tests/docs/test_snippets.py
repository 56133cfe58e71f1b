"""Every fenced bash and python block, run as a reader would paste it, against local Daytona."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_server import LocalServer, new_state_dir

from .pages import ROOT, RUN_TAGS, SHOWN_TAGS, Block, blocks, shown_files
from .waiting import ANOTHER_MACHINE

ALL = list(blocks())
NOT_RUN = ANOTHER_MACHINE
RUN = [block for block in ALL if block.tag in RUN_TAGS and block.name not in NOT_RUN]


def test_the_extraction_finds_blocks() -> None:
    """An empty extraction would pass everything below."""
    assert len(RUN) >= 6


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.name)
def test_every_fence_says_what_it_holds(block: Block) -> None:
    """An untagged fence is neither run nor known not to be."""
    assert block.tag in RUN_TAGS + SHOWN_TAGS


def test_every_excuse_still_has_its_block() -> None:
    """The list of blocks that are not run holds no leftovers."""
    assert set(NOT_RUN) <= {block.name for block in ALL}


def test_files_that_pages_show_are_found() -> None:
    """Else the commands beside them would fail, or find nothing to run."""
    assert set(shown_files("examples/plot-data.md")) == {"data.csv", "plot.py"}
    assert "hello from" in shown_files("examples/run-python.md")["found.py"]


@pytest.fixture
def tidy(server: LocalServer) -> Iterator[None]:
    """A failed block leaves nothing to the next; what a page keeps for its own next one stays."""
    yield
    for found in server.sandboxes():
        if not found["name"].startswith("keep-"):
            server.request("DELETE", f"/api/sandbox/{found['id']}")


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One user reads all pages: what a block keeps is theirs in the next."""
    return tmp_path_factory.mktemp("state")


def make_project(folder: Path, page: str) -> Path:
    """With the files that the page shows."""
    for path, text in {"main.py": "print('what a page uploads')\n", **shown_files(page)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_the_block_runs(
    block: Block, server: LocalServer, tmp_path: Path, state_home: Path
) -> None:
    """What the page says to type ends with 0, and leaves no sandbox unless it says so."""
    command = (
        ["bash", "-euo", "pipefail", "-c", block.text]
        if block.tag == "bash"
        else [sys.executable, "-c", block.text]
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "XDG_DATA_HOME": os.environ.get("XDG_DATA_HOME", str(Path.home() / ".local/share")),
        "XDG_STATE_HOME": str(state_home),
        "CLAUDE_SKILL_DIR": str(ROOT),
        "DAYTONA_API_URL": server.api_url,
        "DAYTONA_API_KEY": server.api_key,
        "DAYTONA_LOCAL_STATE": str(server.state_dir),
    }
    if re.search(r'local_daytona"? st', block.text):  # it starts and stops a server: one of its own
        environment["DAYTONA_LOCAL_STATE"] = str(new_state_dir())
    project = make_project(tmp_path / "project", block.page)
    ended = subprocess.run(
        command,
        cwd=project if "CLAUDE_SKILL_DIR" in block.text or block.tag == "python" else ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [
        found["name"] for found in server.sandboxes() if not found["name"].startswith("keep-")
    ] == []
