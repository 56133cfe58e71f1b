"""Run with: python3 -m tests tests/cloud --cloud   (DAYTONA_API_KEY must be exported)"""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cloud",
        action="store_true",
        help="talk to the real Daytona with DAYTONA_API_KEY; costs money",
    )


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Skip unless the user asked and has a key."""
    if not request.config.getoption("--cloud") or not os.environ.get("DAYTONA_API_KEY"):
        pytest.skip("only with --cloud and DAYTONA_API_KEY")
