"""Showing a server of the sandbox: wait until its port listens inside, then a link with its end."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass

from .defaults import PREVIEW_S
from .errors import Failure
from .sdk import Sandbox

SLICE_S = 10  # one look inside lasts so long, then the server's own end is asked for
# The kernel's table needs no tool that an image may lack; 0A is LISTEN.
LOOK = (
    "i=0; while [ $i -lt {tries} ]; do "
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null"
    " | grep -q ':{port:04X} [0-9A-F]*:0000 0A' && exit 0; "
    "i=$((i+1)); sleep 0.2; done; exit 1"
)
TRIES_A_SLICE = SLICE_S * 5


@dataclass(frozen=True)
class PreviewLink:
    """A link to a port of the sandbox, and its end."""

    url: str
    port: int
    expires_at: str

    def as_json(self) -> dict[str, object]:
        return {"url": self.url, "port": self.port, "expires_at": self.expires_at}


async def wait_for_port(
    sandbox: Sandbox, port: int, *, timeout_s: int, server: tuple[str, str] | None
) -> None:
    """Return when something listens.

    Raises Failure when the `server` (session and command) ends before, or the time does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        left = deadline - loop.time()
        tries = max(1, min(TRIES_A_SLICE, int(left * 5))) if server is None else 5
        if (await sandbox.exec(LOOK.format(port=port, tries=tries), timeout_s=SLICE_S * 3))[0] == 0:
            return
        code = await sandbox.exit_code(*server) if server else None
        if code is not None:
            raise Failure(
                "exec_failed",
                f"the server ended with exit code {code} before port {port} listened;"
                " its output is above",
                fix="mend --serve; it must stay in the foreground and listen on that port",
            )
        if loop.time() >= deadline:
            raise Failure(
                "timeout",
                f"nothing listened on port {port} within {timeout_s} s;"
                " what the server printed is above",
                fix=f"--timeout {timeout_s * 3},"
                " or --preview with the port that the server really uses",
            )


async def make_preview_link(sandbox: Sandbox, port: int) -> PreviewLink:
    """A signed link for an hour; raises Failure."""
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=PREVIEW_S)
    return PreviewLink(
        await sandbox.signed_preview_url(port, PREVIEW_S), port, ends.isoformat(timespec="seconds")
    )
