"""Sockets of the sandbox's own network namespace, made here and handed to the server."""

from __future__ import annotations

import errno
import socket

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from typing import Any

    Values = dict[str, Any]

BACKLOG = 512
# The server waits for a connection that is under way, the agent never does.
PENDING = (0, errno.EINPROGRESS)


def connect(request: Values) -> int:
    """A stream socket connected, or being connected, to the request's host and port.

    Raises OSError.
    """
    family = socket.AF_INET6 if ":" in request["host"] else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setblocking(False)
        code = found.connect_ex((request["host"], request["port"]))
        if code not in PENDING:
            raise OSError(code, "")
    except OSError:
        found.close()
        raise
    return found.detach()


def listen(request: Values) -> int:
    """A listening stream socket at the request's host and port; raises OSError."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((request["host"], request["port"]))
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found.detach()
