"""The server that the pages' blocks run against, with a github.com of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_server import LocalServer

from . import github


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One server for all pages."""
    with github.running_server(tmp_path_factory.mktemp("github")) as running:
        yield running
