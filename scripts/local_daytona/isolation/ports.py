"""Connections to ports inside a sandbox, dialled from outside where this host lets us."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess

from ..errors import FileProblem
from .helper import PROXY
from .running_sandbox import RunningSandbox
from .streams import writable

CONNECT_TIMEOUT_S = 5.0
# Below it nothing inside may listen: what does is this server's (isolation.helper), and its proxy.
FIRST_FREE_PORT = 1024


async def connect(sandbox: RunningSandbox, port: int) -> socket.socket:
    """A socket connected to a loopback port inside, over IPv4 or else IPv6.

    Raises FileProblem when nothing listens there.
    """
    if port < FIRST_FREE_PORT or port == PROXY[1]:
        raise FileProblem(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    try:
        return await connect_to(sandbox, "127.0.0.1", port)
    except FileProblem:
        return await connect_to(sandbox, "::1", port)


async def connect_to(sandbox: RunningSandbox, host: str, port: int) -> socket.socket:
    found = await dial(sandbox, host, port)
    try:
        await asyncio.wait_for(writable(found.fileno()), CONNECT_TIMEOUT_S)
        code = found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException as error:
        found.close()
        if isinstance(error, asyncio.TimeoutError):
            raise FileProblem(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        raise
    if code:
        found.close()
        raise FileProblem(code, os.strerror(code))
    return found


async def dial(sandbox: RunningSandbox, host: str, port: int) -> socket.socket:
    """From outside, so that nobody inside shares it; where this host refuses that, from inside.

    Raises FileProblem, SandboxGone.
    """
    try:
        return await asyncio.to_thread(dial_from_outside, sandbox, host, port)
    except ConnectionRefusedError as error:
        raise FileProblem(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)) from error
    except (OSError, subprocess.SubprocessError):
        return await sandbox.agent.dial(host, port)


def dial_from_outside(sandbox: RunningSandbox, host: str, port: int) -> socket.socket:
    with sandbox.network() as network:
        return sandbox.host.helper.connect(network, host, port)
