"""The real matplotlib for the Python that sandboxes have, installed by the host, as one archive."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_server import LocalServer

SITE = "/home/daytona/site"
UNUSED = ("tests", "__pycache__", "include", "sample_data")
INSTALL_TIMEOUT_S = 600
OPTIONS = "--quiet --disable-pip-version-check --no-compile --only-binary :all:".split()


def pip() -> list[str]:
    """Some interpreter's pip on this host: uv's environments have none."""
    for python in (sys.executable, "/usr/bin/python3", "python3"):
        command = [python, "-m", "pip"]
        asked = subprocess.run([*command, "--version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return command
    pytest.fail("no Python of this host has pip, which installs matplotlib for the sandbox")


def python_of_sandboxes(server: LocalServer) -> str:
    """Its version, as pip takes it."""
    sandbox = server.create(ephemeral=True)["id"]
    code = 'import sys; print("%d.%d" % sys.version_info[:2])'
    version: str = server.exec(sandbox, f"python3 -c '{code}'")["result"].strip()
    server.request("DELETE", f"/api/sandbox/{sandbox}")
    return version


@contextlib.contextmanager
def packed_site(server: LocalServer, *packages: str) -> Iterator[Path]:
    """A tar with `site`, in which `packages` are; not in pytest's folder, which is kept."""
    version = ["--python-version", python_of_sandboxes(server)]
    with tempfile.TemporaryDirectory() as folder:
        site, archive = Path(folder, "site"), Path(folder, "site.tar")
        subprocess.run(
            [*pip(), "install", *OPTIONS, *version, "--target", str(site), *packages],
            timeout=INSTALL_TIMEOUT_S,
            check=True,
        )
        with tarfile.open(archive, "w") as tar:
            tar.add(
                site,
                "site",
                filter=lambda entry: None if Path(entry.name).name in UNUSED else entry,
            )
        yield archive
