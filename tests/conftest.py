"""What holds for every test: warnings are errors (pyproject), and nothing leaves this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest

REAL_CONNECT = socket.socket.connect
REAL_CONNECT_EX = socket.socket.connect_ex


class LeftTheMachine(AssertionError):
    """A test tried to reach another host; an AssertionError, so that no handler of network errors takes it for one."""


def stay_here(connection: socket.socket, address: Any) -> None:
    """Raises LeftTheMachine unless a stream goes to loopback; a name is refused too, since it may mean anything."""
    if (
        connection.family not in (socket.AF_INET, socket.AF_INET6)
        or connection.type != socket.SOCK_STREAM
    ):
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
    """The suite drives the real SDK in this process: a test that forgets its endpoint must not reach the user's account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        yield
