"""The server that the pages' blocks run against, with a github.com of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.conftest import LocalServer, new_state_dir, wait_for_server

from . import github


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One server for all pages; its sandboxes trust the site's authority besides those that this host trusts."""
    state = new_state_dir()
    state.mkdir()
    with github.running_site(tmp_path_factory.mktemp("github")) as site:
        bundle = site.authority.with_name("bundle.pem")
        trusted = [Path(os.environ[name]) for name in ("SSL_CERT_FILE",) if name in os.environ]
        bundle.write_text("".join(path.read_text() for path in [*trusted, site.authority]))
        with open(state / "server.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, github.__file__, str(state), str(site.port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "SSL_CERT_FILE": str(bundle)},
            )  # fmt: skip
        try:
            yield wait_for_server(state, process)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=30)
