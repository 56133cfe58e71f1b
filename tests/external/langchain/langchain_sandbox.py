"""LangChain's test class for sandboxes over langchain-daytona.

test_clients.py runs it in an environment of its own.
"""

from collections.abc import Iterator

import pytest
from daytona import Daytona
from langchain_daytona import DaytonaSandbox
from langchain_tests.integration_tests import SandboxIntegrationTests


class TestLocalDaytona(SandboxIntegrationTests):
    """Every test of the class, on one sandbox."""

    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[DaytonaSandbox]:
        """A sandbox of the server that the environment names."""
        made = Daytona().create()
        try:
            yield DaytonaSandbox(sandbox=made)
        finally:
            made.delete()
