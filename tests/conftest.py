"""What every test has: nothing leaves this machine, and a real local Daytona to talk to."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer, new_state_dir, running_server, why_no_engine

NO_SANDBOXES = "this machine isolates no sandboxes"
WORDS_OF_A_REASON = 60  # characters of it: the rest may be cut or wrapped
REAL_CONNECT = socket.socket.connect
REAL_CONNECT_EX = socket.socket.connect_ex


class LeftTheMachine(AssertionError):
    """A test tried to reach another host.

    An AssertionError, so that no handler of network errors takes it for one.
    """


def stay_here(connection: socket.socket, address: Any) -> None:
    """Raises LeftTheMachine unless a stream goes to loopback.

    A name is refused too, since it may mean anything.
    """
    is_internet = connection.family in (socket.AF_INET, socket.AF_INET6)
    if not is_internet or connection.type != socket.SOCK_STREAM:
        return
    host = str(address[0])
    try:
        here = host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        here = False
    if not here:
        raise LeftTheMachine(f"this test connected to {host}")


def connect(connection: socket.socket, address: Any) -> None:
    stay_here(connection, address)
    REAL_CONNECT(connection, address)


def connect_ex(connection: socket.socket, address: Any) -> int:
    stay_here(connection, address)
    return REAL_CONNECT_EX(connection, address)


@pytest.fixture(scope="session", autouse=True)
def no_cloud() -> Iterator[None]:
    """The suite drives the real SDK in this process, and must not reach the user's account.

    A test that forgets its endpoint would.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One server for all tests that only need one."""
    state = new_state_dir()
    with running_server(state) as running:
        yield running


@pytest.fixture
def state_dir() -> Path:
    """A state folder for a test that starts its own servers."""
    return new_state_dir()


@pytest.fixture
def sandbox(server: LocalServer) -> Iterator[str]:
    """The id of a fresh sandbox, deleted afterwards."""
    created = server.create()
    yield created["id"]
    server.request("DELETE", f"/api/sandbox/{created['id']}")


@pytest.fixture
def sdk(server: LocalServer) -> Any:
    """The unmodified SDK's synchronous client, pointed at the server."""
    from daytona import Daytona, DaytonaConfig

    return Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url))


@pytest.fixture(scope="session")
def isolating() -> None:
    """For tests that need sandboxes and whose failure does not say that there are none."""
    if engine_is_missed() is not None:
        pytest.skip(NO_SANDBOXES)


def engine_is_missed() -> str | None:
    """Why no sandbox can be isolated here; None also in a CI, which is to have what it needs."""
    return None if os.environ.get("CI") else why_no_engine()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where no sandbox can be isolated, what failed for that reason is skipped, not failed.

    All are one line of the summary, which counts them.
    """
    report = yield
    told = " ".join((str(report.longrepr) + "".join(text for _, text in report.sections)).split())
    is_skipped = report.skipped and NO_SANDBOXES in told
    reason = engine_is_missed() if report.failed or is_skipped else None
    if reason is not None and (is_skipped or " ".join(reason.split())[:WORDS_OF_A_REASON] in told):
        report.outcome = "skipped"
        report.longrepr = (__file__, 1, f"Skipped: {NO_SANDBOXES}: {reason}")
    return report
